"""Work that tries what a confined process must not be able to do, and says how each ended."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def prepare(arguments: Sequence[str]) -> None:
    """What is opened before stays open: the descriptor that was given."""
    assert int(arguments[0]) > 2


def work(arguments: Sequence[str]) -> None:
    """Try each; the answer goes to the descriptor."""
    descriptor, readable, secret, target, port = arguments
    attempts: dict[str, Callable[[], object]] = {
        "read what was named": Path(readable).read_bytes,
        "read what was not": Path(secret).read_bytes,
        "write": lambda: Path(target).write_bytes(b"x"),
        "connect": lambda: socket.create_connection(("127.0.0.1", int(port)), timeout=5),
        "start a program": lambda: subprocess.run([sys.executable, "-V"], check=True),
        "start a program as a shell does": lambda: os.posix_spawn(
            sys.executable, [sys.executable, "-V"], {}
        ),
        "signal": lambda: os.kill(os.getppid(), 0),
    }
    ends = {name: _end(attempt) for name, attempt in attempts.items()}
    os.write(int(descriptor), json.dumps(ends).encode())


def _end(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"
