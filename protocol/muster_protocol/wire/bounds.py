"""What any number or text of the protocol may be: the annotated types every message is made of.

Whatever holds a certificate may send anything, so each integer fits every column and every sum,
each float is finite, and no text can steer a terminal or deceive its reader. Bare ``int``,
``float`` and ``str`` have no place in a message; a structure test refuses them.
"""

import math
import re
from typing import Annotated, Any

from msgspec import Meta

from muster_protocol.wire import limits
from muster_protocol.wire.errors import ProtocolError

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
"""All of C0 and C1 but tab and newline."""
_BIDI = "\u202a-\u202e\u2066-\u2069"
"""Embeddings, overrides and isolates of the bidirectional algorithm: text shown out of order."""
_BREAKS = "\t\n"
_SEPARATORS = "\u2028\u2029"
_FORBIDDEN = re.compile(f"[{_CONTROLS}{_BIDI}{_SEPARATORS}]")
_FORBIDDEN_IN_LINE = re.compile(f"[{_CONTROLS}{_BIDI}{_SEPARATORS}{_BREAKS}]")
TEXT_PATTERN = rf"^[^{_CONTROLS}{_BIDI}{_SEPARATORS}]*\Z"
LINE_PATTERN = rf"^[^{_CONTROLS}{_BIDI}{_SEPARATORS}{_BREAKS}]*\Z"
REPLACEMENT = "\ufffd"

Integer = Annotated[int, Meta(ge=0, le=limits.INTEGER_MAX)]
"""What every JSON reader and every database column holds exactly, with room for sums."""
Serial = Annotated[int, Meta(ge=1, le=limits.SERIAL_MAX)]
Count = Annotated[int, Meta(ge=0, le=limits.COUNT_MAX)]
"""Of things in one window or since a start: millions of them may be added up."""
Format = Annotated[int, Meta(ge=0, le=2**16)]
"""The number of a version of something's form."""
Finite = Annotated[float, Meta(ge=-limits.NUMBER_MAX, le=limits.NUMBER_MAX)]
"""Any number a model, a metric or a feature may have; its square is finite, too."""
Amount = Annotated[float, Meta(ge=0, le=limits.NUMBER_MAX)]
Seconds = Annotated[float, Meta(ge=0, le=limits.SECONDS_MAX)]
Moment = Annotated[float, Meta(ge=-limits.SECONDS_MAX, le=limits.SECONDS_MAX)]
"""A reading of a clock, in seconds, however wrong the clock is."""
Name = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX, pattern=LINE_PATTERN)]
"""Of a model, a version, a slot, a feature, or a hash in hexadecimal."""
Line = Annotated[str, Meta(max_length=limits.LINE_CHARS_MAX, pattern=LINE_PATTERN)]
Text = Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX, pattern=TEXT_PATTERN)]
"""May have several lines."""
Boot = Annotated[bytes, Meta(max_length=limits.BOOT_BYTES_MAX)]


def clean(text: str, *, line: bool = False) -> str:
    """``text`` with each character that could steer a terminal or deceive a reader replaced.

    With ``line`` also tabs and line breaks, each by a space.
    """
    text = text.replace("\r\n", "\n")
    if not line:
        return _FORBIDDEN.sub(REPLACEMENT, text)
    spaced = text.replace("\n", " ").replace("\t", " ")
    return _FORBIDDEN_IN_LINE.sub(REPLACEMENT, spaced)


def is_clean(text: str) -> bool:
    """Whether a text holds no control character, line break or other forbidden character."""
    return _FORBIDDEN.search(text) is None


def cleaned(value: Any, *, line: bool = False) -> Any:
    """Plain values (as decoded from MessagePack or JSON) with every text in them cleaned, with
    ``line`` as one line.
    """
    match value:
        case str():
            return clean(value, line=line)
        case list():
            return [cleaned(item, line=line) for item in value]
        case dict():
            return {
                clean(key, line=True) if isinstance(key, str) else key: cleaned(item, line=line)
                for key, item in value.items()
            }
        case _:
            return value


def check_plain(value: Any, where: str = "", depth: int = 0) -> None:
    """Hold plain values to the bounds of every message; raises ProtocolError naming the place.

    For what has no schema of its own, such as the free part of an HTTP body.
    """
    if depth > limits.NESTING_MAX:
        raise ProtocolError(f"{where or 'the value'}: nested deeper than {limits.NESTING_MAX}")
    what = where or "the value"
    match value:
        case bool() | None | bytes():
            return
        case int() if abs(value) > limits.INTEGER_MAX:
            raise ProtocolError(f"{what}: {value:.3e} is beyond ±2^53")
        case float() if not (math.isfinite(value) and abs(value) <= limits.NUMBER_MAX):
            raise ProtocolError(f"{what}: not a finite number within ±{limits.NUMBER_MAX:g}")
        case str() if not is_clean(value) or not _encodes(value):
            raise ProtocolError(f"{what}: holds control characters or overrides of text direction")
        case list() | tuple():
            for index, item in enumerate(value):
                check_plain(item, f"{where}[{index}]", depth + 1)
        case dict():
            for key, item in value.items():
                name = clean(str(key), line=True)[:40]
                check_plain(key, f"the name {name!r}", depth + 1)
                check_plain(item, f"{where}.{name}" if where else name, depth + 1)


def _encodes(text: str) -> bool:
    """Whether it is Unicode that can be stored: JSON may spell lone surrogates."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
