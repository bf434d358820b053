"""``model.sig`` before the OpenSSF's own verifier, in a virtual environment of its own.

The environment is made once, under ``build/``. Without a package index this can't be run and says
so; every other failure is one.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from support import models as fixtures

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / "build" / "model-signing"
WANTED = ("model-signing==1.1.1", "pyopenssl>=25")
"""It forgets to ask for pyopenssl."""
OUT_OF_REACH = ("Failed to establish a new connection", "Name or service not known",
                "Temporary failure in name resolution", "timed out",
                "No matching distribution found for model-signing")  # fmt: skip

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def stock() -> Path:
    """The stock verifier's program."""
    VENV.parent.mkdir(exist_ok=True)
    program = VENV / "bin" / "model_signing"
    ready = VENV / ".ready"
    with (VENV.parent / "model-signing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
            pip = [VENV / "bin" / "pip", "install", "--quiet", "--retries", "1", *WANTED]
            done = subprocess.run(pip, capture_output=True, text=True, check=False)
            if done.returncode and any(sign in done.stderr for sign in OUT_OF_REACH):
                pytest.skip("NOT TESTED: no package index to install model-signing from")
            assert done.returncode == 0, done.stderr
            ready.touch()
    return program


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    fixtures.write_bundle(tmp_path / "bundle")
    muster("keygen", "--model", tmp_path / "key")
    muster("sign-model", tmp_path / "bundle", "--key", tmp_path / "key")
    return tmp_path / "bundle"


def muster(*arguments: object) -> None:
    program = Path(sys.executable).parent / "muster-hub"
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)


def verify(stock: Path, bundle: Path, key: Path) -> subprocess.CompletedProcess[str]:
    """As docs/operator.md has it."""
    return subprocess.run(
        [stock, "verify", "key", bundle, "--signature", bundle / "model.sig",
         "--public_key", key, "--ignore-paths", bundle / "manifest.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_stock_verifier_accepts_our_signature(stock: Path, bundle: Path) -> None:
    done = verify(stock, bundle, bundle.parent / "key.pub")
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "golden.npz"])
def test_the_stock_verifier_refuses_an_altered_file(stock: Path, bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes() + b"!")
    done = verify(stock, bundle, bundle.parent / "key.pub")
    assert done.returncode != 0
    assert name in done.stdout + done.stderr


def test_the_stock_verifier_refuses_another_key(stock: Path, bundle: Path) -> None:
    muster("keygen", "--model", bundle.parent / "other")
    assert verify(stock, bundle, bundle.parent / "other.pub").returncode != 0


def test_what_the_stock_signer_makes_we_accept(stock: Path, bundle: Path) -> None:
    (bundle / "model.sig").unlink()
    subprocess.run(
        [stock, "sign", "key", bundle, "--private_key", bundle.parent / "key",
         "--signature", bundle / "model.sig", "--ignore-paths", bundle / "manifest.json"],
        check=True, capture_output=True,
    )  # fmt: skip
    muster("verify-model", bundle, "--public", bundle.parent / "key.pub")
