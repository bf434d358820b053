"""The command ``muster`` where a library it needs is not installed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["typer", "httpx"])
def test_a_missing_library_names_the_extra(library):
    code = (
        f"import sys; sys.modules['{library}'] = None; from muster_client.entry import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--hub", "https://127.0.0.1:9", "--token", "x", "device",
         "list"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert library in done.stderr
    assert "pip install 'muster-edge[cli]'" in done.stderr
