"""Selectors over device labels, in the notation of Kubernetes.

``site=berlin,line in (1,2),!retired`` holds where every part holds. Parts: ``key=value`` (or
``==``), ``key!=value``, ``key in (a,b)``, ``key notin (a,b)``, ``key``, ``!key``. As there,
``!=`` and ``notin`` also hold for a device without the key. The empty selector holds for all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

from muster_protocol.wire.errors import ProtocolError

CHARS_MAX = 1024
PARTS_MAX = 32
VALUES_MAX = 256
WORD_CHARS_MAX = 64

Operator = Literal["in", "notin", "exists", "absent"]
_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?)|(?P<sign>==|!=|[=!,()]))"
)


class SelectorError(ProtocolError):
    """A selector that can't be read; the message shows where."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        found = repr(text[position : position + 12]) if position < len(text) else "the end"
        start = max(position - 40, 0)
        shown = text[start : position + 24]
        super().__init__(
            f"selector: expected {expected} at position {position + 1}, found {found}\n"
            f"  {shown}\n  {' ' * (position - start)}^"
        )
        self.position = position


@dataclass(frozen=True)
class Part:
    """One condition on one label, such as ``line in (1,2)``."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it; a missing label fulfils only ``!=``, ``notin`` and ``!key``."""
        match self.operator:
            case "in":
                return labels.get(self.key) in self.values
            case "notin":
                return labels.get(self.key) not in self.values
            case "exists":
                return self.key in labels
            case "absent":
                return self.key not in labels
            case _:
                assert_never(self.operator)

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "absent":
                return f"!{self.key}"
            case "in" if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case "notin" if len(self.values) == 1:
                return f"{self.key}!={self.values[0]}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(self.values)})"
            case _:
                assert_never(self.operator)


@dataclass(frozen=True)
class Selector:
    """Holds where every part holds. ``str()`` gives the canonical text."""

    parts: tuple[Part, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil every condition; the empty selector matches all."""
        return all(part.matches(labels) for part in self.parts)

    def __str__(self) -> str:
        return ",".join(str(part) for part in self.parts)


class _Token(NamedTuple):
    text: str
    is_word: bool
    position: int


def parse(text: str) -> Selector:
    """Read a selector; raises SelectorError that points at the first thing wrong."""
    if len(text) > CHARS_MAX:
        raise SelectorError(text, CHARS_MAX, f"at most {CHARS_MAX} characters")
    return _Parser(text).selector()


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise ProtocolError for a label that no selector could name."""
    for what, word in [("label", key) for key in labels] + [
        (f"value of label {key!r}", value) for key, value in labels.items()
    ]:
        token = _TOKEN.fullmatch(word)
        if token is None or token["word"] != word or len(word) > WORD_CHARS_MAX:
            raise ProtocolError(
                f"{what} {word[:80]!r}: use 1 to {WORD_CHARS_MAX} letters, digits, '.', '_', '/' "
                "or '-', starting and ending with a letter or digit"
            )


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0

    def selector(self) -> Selector:
        parts: list[Part] = []
        if self._peek().text == "":
            return Selector()
        while True:
            if len(parts) == PARTS_MAX:
                raise self._error(f"at most {PARTS_MAX} parts")
            parts.append(self._part())
            token = self._take()
            if token.text == "":
                return Selector(tuple(parts))
            if token.text != ",":
                self._at -= 1
                raise self._error("',' or the end")

    def _part(self) -> Part:
        if self._peek().text == "!":
            self._take()
            return Part(self._word("a label after '!'"), "absent")
        key = self._word("a label")
        token = self._peek()
        if token.text in ("=", "==", "!="):
            self._take()
            value = self._word("a value")
            return Part(key, "notin" if token.text == "!=" else "in", (value,))
        if token.is_word and token.text in ("in", "notin"):
            self._take()
            return Part(key, "in" if token.text == "in" else "notin", self._values())
        if token.is_word or token.text in ("(", ")", "!"):
            raise self._error("'=', '!=', 'in', 'notin', ',' or the end")
        return Part(key, "exists")

    def _values(self) -> tuple[str, ...]:
        if self._peek().text != "(":
            raise self._error("'('")
        self._take()
        values = [self._word("a value")]
        while self._peek().text == ",":
            self._take()
            if len(values) == VALUES_MAX:
                raise self._error(f"at most {VALUES_MAX} values")
            values.append(self._word("a value"))
        if self._peek().text != ")":
            raise self._error("',' or ')'")
        self._take()
        return tuple(dict.fromkeys(values))

    def _word(self, expected: str) -> str:
        token = self._peek()
        if not token.is_word:
            raise self._error(expected)
        if len(token.text) > WORD_CHARS_MAX:
            raise self._error(f"{expected} of at most {WORD_CHARS_MAX} characters")
        return self._take().text

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _error(self, expected: str) -> SelectorError:
        return SelectorError(self._text, self._peek().position, expected)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            blank = len(text[position:]) - len(text[position:].lstrip())
            raise SelectorError(text, position + blank, "a label, a value or a sign")
        kind = "word" if found["word"] is not None else "sign"
        tokens.append(_Token(found[kind], kind == "word", found.start(kind)))
        position = found.end()
    tokens.append(_Token("", is_word=False, position=end))
    return tokens
