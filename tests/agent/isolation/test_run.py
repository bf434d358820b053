"""Work on what nobody knows, run where it can do little."""

import json
import os
import socket
import subprocess
import sys

import pytest

from muster_agent.isolation.cage import Rung, available
from muster_agent.isolation.run import CANT_CONFINE_EXIT


def run(*arguments: str, descriptors: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "muster_agent.isolation.run", *arguments],
        pass_fds=descriptors, capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


@pytest.mark.skipif(available() is not Rung.FULL, reason="this kernel can't confine a process")
def test_confined_work_reads_what_was_named_and_does_nothing_else(tmp_path):
    (tmp_path / "named").write_bytes(b"data")
    (tmp_path / "secret").write_bytes(b"key")
    heard, said = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run(
            *("--read", str(tmp_path / "named"), "support.confined_work", str(said)),
            *(str(tmp_path / name) for name in ("named", "secret", "target")),
            str(server.getsockname()[1]),
            descriptors=(said,),
        )
    os.close(said)
    assert done.returncode == 0, done.stderr
    with os.fdopen(heard, "rb") as answer:
        ends = json.loads(answer.read())
    assert ends.pop("read what was named") == "done"
    assert ends.pop("read what was not") == "PermissionError"
    assert {name for name, end in ends.items() if end == "done"} == set()
    assert not (tmp_path / "target").exists()


def test_work_that_raises_ends_with_its_error():
    done = run("support.confined_work", "3")
    assert done.returncode not in {0, CANT_CONFINE_EXIT} or available() is not Rung.FULL
