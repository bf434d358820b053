"""Output in characters that a terminal's encoding lacks: no command ends over them."""

import io
from collections.abc import Iterable
from typing import TextIO


def never_fail(streams: Iterable[TextIO]) -> None:
    """Have text streams put a ``?`` for each character that their encoding lacks."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
