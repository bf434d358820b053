"""A PKCS#11 token in software: SoftHSM, one for each test process, with keys made on it."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pkcs11
import pytest
from pkcs11.util.ec import encode_named_curve_parameters

TOKEN, PIN = "muster-test", "4711"
PLACES = (
    "softhsm/libsofthsm2.so",
    "pkcs11/libsofthsm2.so",
    "x86_64-linux-gnu/softhsm/libsofthsm2.so",
)
PREFIXES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")


class SoftHsm:
    """``environment`` is what programs need to find the token."""

    def __init__(self, module: Path, directory: Path) -> None:
        self.module = module
        config = directory / "softhsm2.conf"
        (directory / "tokens").mkdir()
        config.write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
        self.environment = {"SOFTHSM2_CONF": str(config), "PYKCS11LIB": str(module)}
        os.environ |= self.environment
        self._made = 0
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", TOKEN,
             "--pin", PIN, "--so-pin", PIN],
            check=True, capture_output=True,
        )  # fmt: skip
        self.library = pkcs11.lib(str(module))

    def new_key(self) -> int:
        """A P-256 key made on the token; its id."""
        self._made += 1
        token = self.library.get_token(token_label=TOKEN)
        curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
        with token.open(user_pin=PIN, rw=True) as session:
            parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
            parameters.generate_keypair(
                store=True, id=bytes([self._made]), label=f"key-{self._made}"
            )
        return self._made

    def uri(self, key: int) -> str:
        """As securesystemslib names it."""
        return f"hsm:{key}?label={TOKEN}"


@functools.cache
def token() -> SoftHsm:
    """This process's token; PKCS#11 modules are initialised once a process."""
    places = [Path(prefix) / place for prefix in PREFIXES for place in PLACES]
    module = next((path for path in places if path.exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.fail("SoftHSM is missing: deploy/need softhsm2")
    directory = Path(tempfile.mkdtemp(prefix="muster-softhsm-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return SoftHsm(module, directory)
