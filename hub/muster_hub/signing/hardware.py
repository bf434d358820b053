"""Signing keys that lie in hardware or a cloud, named by a URI: securesystemslib's signers.

``hsm:2?label=TOKEN`` is a key on a PKCS#11 token, by its id and the token's label; the environment
variable PYKCS11LIB names the token's module. Others (``gcpkms:…``, ``azurekms:…``, ``awskms:…``)
need that cloud's library and their public half as a file. A PIN is asked for when one is needed.
"""

import re
import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import HSMSigner, Key, SecretsHandler, Signature, Signer, SSlibKey

from muster_hub.errors import ConfigError

HSM = "hsm"
MODULE_VARIABLE = "PYKCS11LIB"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")
_one_at_a_time = threading.Lock()
"""A PKCS#11 login belongs to the process: two at once trip over each other."""

Pin = Callable[[], str]
Made = TypeVar("Made")


def is_uri(text: str) -> bool:
    """Whether a key is named by a URI, not by a file."""
    return _SCHEME.match(text) is not None


class UriSigner(Signer):
    """A signer found by its URI, whose failures are one line that names the key."""

    def __init__(self, uri: str, inner: Signer) -> None:
        self._uri = uri
        self._inner = inner

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> "UriSigner":
        """securesystemslib's constructor for the key of a URI."""
        inner = Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler)
        return cls(priv_key_uri, inner)

    @property
    def public_key(self) -> Key:
        """The half that metadata name."""
        return self._inner.public_key

    def sign(self, payload: bytes) -> Signature:
        """Sign on the token, one signature at a time; raises ConfigError."""
        with _one_at_a_time:
            return _explained(self._uri, lambda: self._inner.sign(payload))


def open_signer(uri: str, public: SSlibKey, pin: Pin) -> Signer:
    """Raises ConfigError; the key itself is touched only when it signs."""
    return _explained(uri, lambda: UriSigner.from_priv_key_uri(uri, public, lambda _: pin()))


def public_of(uri: str, pin: Pin) -> SSlibKey:
    """The public half of a key on a PKCS#11 token; raises ConfigError."""
    parts = urlsplit(uri)
    if parts.scheme != HSM:
        raise ConfigError(f"{uri}: give its public half with --public; only {HSM}: can be asked")
    if parts.path and not parts.path.isdecimal():
        raise ConfigError(f"{uri}: write it as {HSM}:2?label=TOKEN, with the key's id as a number")
    identifier = int(parts.path) if parts.path else None
    label = dict(parse_qsl(parts.query)).get("label")
    with _one_at_a_time:
        _, key = _explained(uri, lambda: HSMSigner.import_(identifier, label, lambda _: pin()))
    return key


def _explained(uri: str, step: Callable[[], Made]) -> Made:
    try:
        return step()
    except (ConfigError, KeyboardInterrupt):
        raise
    except SecureSystemsError as error:
        cure = "install muster-edge[hsm]" if uri.startswith(f"{HSM}:") else "install its library"
        raise ConfigError(f"{uri}: {_line(error)}; {cure}") from None
    except Exception as error:  # each library has its own
        said = _line(error) or type(error).__name__
        raise ConfigError(f"{uri}: this key can't be used: {said}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
