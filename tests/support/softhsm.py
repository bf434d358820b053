"""A PKCS#11 module in software: SoftHSM, one for each test process, with keys on its tokens."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pkcs11
import pytest

HUB, DEVICE, SHUT = TOKENS = ("muster-test", "muster-device", "muster-shut")
"""A login holds for a token and a whole process, so each kind of test has a token of its own; no
test logs in to the last with the right PIN."""
PIN = "4711"
PLACES = (
    "softhsm/libsofthsm2.so",
    "pkcs11/libsofthsm2.so",
    "x86_64-linux-gnu/softhsm/libsofthsm2.so",
)
PREFIXES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
MAKE_KEY = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
module, token, pin, number = sys.argv[1:]
curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
with pkcs11.lib(module).get_token(token_label=token).open(user_pin=pin, rw=True) as session:
    parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    parameters.generate_keypair(store=True, id=bytes([int(number)]), label=f"key-{number}")
"""


class SoftHsm:
    def __init__(self, module: Path, directory: Path) -> None:
        self.module = module
        config = directory / "softhsm2.conf"
        (directory / "tokens").mkdir()
        config.write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
        os.environ |= {"SOFTHSM2_CONF": str(config), "PYKCS11LIB": str(module)}
        self._made = 0
        for label in TOKENS:
            subprocess.run(
                ["softhsm2-util", "--init-token", "--free", "--label", label,
                 "--pin", PIN, "--so-pin", PIN],
                check=True, capture_output=True,
            )  # fmt: skip
        # The hub's library must be first to start the module; the device's then joins in.
        pkcs11.lib(str(module))

    def new_key(self, token: str = HUB) -> int:
        """A P-256 key made on a token; its id."""
        self._made += 1
        subprocess.run(
            [sys.executable, "-c", MAKE_KEY, str(self.module), token, PIN, str(self._made)],
            check=True,
        )
        return self._made

    def uri(self, key: int) -> str:
        """Of a key on the hub's token, as securesystemslib names it."""
        return f"hsm:{key}?label={HUB}"

    def device_uri(self, key: int, token: str = DEVICE, pin: str = PIN) -> str:
        """As OpenSSL names it (RFC 7512)."""
        return (
            f"pkcs11:token={token};id=%{key:02x};type=private"
            f"?module-path={self.module}&pin-value={pin}"
        )


@functools.cache
def token() -> SoftHsm:
    """This process's own; PKCS#11 modules are initialised once a process."""
    places = [Path(prefix) / place for prefix in PREFIXES for place in PLACES]
    module = next((path for path in places if path.exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.fail("SoftHSM is missing: deploy/need softhsm2")
    directory = Path(tempfile.mkdtemp(prefix="muster-softhsm-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return SoftHsm(module, directory)
