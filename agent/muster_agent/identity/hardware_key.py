"""The device's key in a PKCS#11 token, named by a URI; the key itself is never seen here.

``pkcs11:token=muster;object=device?module-path=/usr/lib/…&pin-value=1234`` (RFC 7512). A TPM is
such a token by the module of tpm2-pkcs11. Python's ssl takes keys from files only, so this goes to
the OpenSSL library that Python itself has loaded: its ``pkcs11`` provider finds the key, or the
older engine of libp11 does.
"""

import ctypes
import functools
import os
import re
import ssl
import threading
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint64, c_ulong, c_void_p
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from muster_protocol.wire.errors import MusterError

SCHEME = "pkcs11:"
PROVIDER = "pkcs11"
ENGINE = "pkcs11"
URI_CHARS_MAX = 1024
SIGNATURE_BYTES_MAX = 256
PUBLIC_KEY_BYTES_MAX = 1024

_MODULE = re.compile(r"(?:(?<=[?&;])|^)module-path=([^&;]*)&?")
_PRIVATE_KEY_IN_STORE = 4
"""OSSL_STORE_INFO_PKEY of store.h."""
_PREFERRED = f"?provider={PROVIDER}".encode()
_SEQUENCE, _BIT_STRING = 0x30, 0x03
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier of RFC 5758, section 3.2."""
_one_at_a_time = threading.Lock()


class HardwareKeyError(MusterError):
    """The key can't be used; one line says why."""


def check_uri(uri: str) -> str:
    """Raises HardwareKeyError for what names no key in hardware."""
    if not uri.startswith(SCHEME) or not len(SCHEME) < len(uri) <= URI_CHARS_MAX:
        raise HardwareKeyError(f"{shown(uri)!r} names no key: write pkcs11:token=…;object=…")
    if not uri.isprintable():
        raise HardwareKeyError("the key's URI has characters that can't be printed")
    return uri


def shown(uri: str) -> str:
    """The URI without its PIN, for messages."""
    return re.sub(r"pin-value=[^&;]*", "pin-value=…", uri)[:200]


@functools.cache
def open_key(uri: str) -> "HardwareKey":
    """The key with this URI, found once a process; raises HardwareKeyError."""
    return HardwareKey(check_uri(uri))


class HardwareKey:
    """A P-256 key that signs without leaving where it is."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lib = _library()
        with _one_at_a_time:
            self._key = self._find()
        self._public = self._read_public()

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The half of the token's key that certificates hold."""
        return self._public

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-256, as DER; raises HardwareKeyError."""
        lib = self._lib
        with _one_at_a_time:
            context = lib.EVP_MD_CTX_new()
            try:
                signature = ctypes.create_string_buffer(SIGNATURE_BYTES_MAX)
                size = c_size_t(SIGNATURE_BYTES_MAX)
                begun = lib.EVP_DigestSignInit_ex(
                    context, None, b"SHA256", None, _PREFERRED, self._key, None
                )
                done = begun == 1 and lib.EVP_DigestSign(
                    context, signature, ctypes.byref(size), data, len(data)
                )
                if done != 1:
                    raise self._error("can't sign")
                return signature.raw[: size.value]
            finally:
                lib.EVP_MD_CTX_free(context)

    def request(self, device: str | None) -> bytes:
        """A certificate signing request in DER, for ``device`` when given.

        Put together here: a provider may write the algorithm's name as others can't read it.
        """
        names = [x509.NameAttribute(NameOID.COMMON_NAME, device)] if device else []
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
        stand_in = ec.generate_private_key(ec.SECP256R1())
        unsigned = builder.sign(stand_in, hashes.SHA256()).tbs_certrequest_bytes
        # Public keys on one curve are equally long, so no length around them changes.
        unsigned = unsigned.replace(_spki(stand_in.public_key()), _spki(self._public))
        signature = _tagged(_BIT_STRING, b"\0" + self.sign(unsigned))
        return _tagged(_SEQUENCE, unsigned + _ECDSA_WITH_SHA256 + signature)

    def use(self, context: ssl.SSLContext, cert: Path) -> None:
        """Have a TLS context show ``cert`` and sign with this key; raises HardwareKeyError."""
        lib = self._lib
        # A CPython SSLContext begins, after the object's header, with its SSL_CTX*.
        place = ctypes.cast(id(context) + object.__basicsize__, POINTER(c_void_p))
        inner = place.contents.value
        if inner is None or lib.SSL_CTX_get_options(inner) != int(context.options) % 2**64:
            raise HardwareKeyError("this Python keeps TLS contexts in a way that is not known here")
        chain = os.fsencode(cert)
        if lib.SSL_CTX_use_certificate_chain_file(inner, chain) != 1:
            raise self._error(f"can't use the certificate {cert}")
        if lib.SSL_CTX_use_PrivateKey(inner, self._key) != 1:
            raise self._error(f"is not the key of {cert}")

    def _find(self) -> int:
        found = _MODULE.search(self.uri)
        module = found.group(1) if found else None
        uri = _MODULE.sub("", self.uri).rstrip("?&;").encode()
        if module:
            os.environ.setdefault("PKCS11_PROVIDER_MODULE", module)
        key = self._from_provider(uri) or self._from_engine(uri, module)
        if key is None:
            raise self._error("was not found, by OpenSSL's pkcs11 provider or by libp11's engine")
        return key

    def _from_provider(self, uri: bytes) -> int | None:
        lib = self._lib
        if not lib.OSSL_PROVIDER_try_load(None, PROVIDER.encode(), 1):
            return None
        store = lib.OSSL_STORE_open(uri, None, None, None, None)
        if not store:
            return None
        try:
            while not lib.OSSL_STORE_eof(store):
                info = lib.OSSL_STORE_load(store)
                if not info:
                    break
                kind = lib.OSSL_STORE_INFO_get_type(info)
                key = lib.OSSL_STORE_INFO_get1_PKEY(info) if kind == _PRIVATE_KEY_IN_STORE else None
                lib.OSSL_STORE_INFO_free(info)
                if key:
                    return int(key)
        finally:
            lib.OSSL_STORE_close(store)
        return None

    def _from_engine(self, uri: bytes, module: str | None) -> int | None:
        lib = self._lib
        engine = _engine(lib, module)
        key = lib.ENGINE_load_private_key(engine, uri, None, None) if engine else None
        return int(key) if key else None

    def _read_public(self) -> ec.EllipticCurvePublicKey:
        public = load_der_public_key(self._der(self._lib.i2d_PUBKEY, self._key))
        if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
            return public
        raise HardwareKeyError(f"{shown(self.uri)} is not a key on the curve P-256")

    def _der(self, encode: Any, what: int) -> bytes:
        buffer = ctypes.create_string_buffer(PUBLIC_KEY_BYTES_MAX)
        size = encode(what, None)
        if not 0 < size <= PUBLIC_KEY_BYTES_MAX:
            raise self._error("can't be written")
        encode(what, ctypes.byref(ctypes.cast(buffer, c_void_p)))
        return buffer.raw[:size]

    def _error(self, what: str) -> HardwareKeyError:
        """With the oldest of OpenSSL's complaints, and none left over for others to trip on."""
        code = self._lib.ERR_get_error()
        text = ctypes.create_string_buffer(256)
        self._lib.ERR_error_string_n(code, text, len(text))
        self._lib.ERR_clear_error()
        reason = (
            text.value.decode(errors="replace").split(":", 2)[-1] if code else "no reason given"
        )
        return HardwareKeyError(f"the key {shown(self.uri)} {what}: {reason}")


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _tagged(tag: int, content: bytes) -> bytes:
    """A DER value: tag, length, content."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


@functools.cache
def _engine(lib: Any, module: str | None) -> int | None:
    """libp11's engine, where it is installed; it stays loaded."""
    engine = lib.ENGINE_by_id(ENGINE.encode())
    if not engine:
        return None
    if module and not lib.ENGINE_ctrl_cmd_string(engine, b"MODULE_PATH", module.encode(), 0):
        return None
    return int(engine) if lib.ENGINE_init(engine) else None


@functools.cache
def _library() -> Any:
    """The OpenSSL that Python's own ssl uses: only its contexts can hold the key."""
    import _ssl  # noqa: PLC0415 - private, and loaded only where a key in hardware is used

    lib = ctypes.CDLL(getattr(_ssl, "__file__", None))
    p, s = c_void_p, c_char_p
    signatures: dict[str, tuple[Any, ...]] = {
        "ENGINE_by_id": (p, s),
        "ENGINE_ctrl_cmd_string": (c_int, p, s, s, c_int),
        "ENGINE_init": (c_int, p),
        "ENGINE_load_private_key": (p, p, s, p, p),
        "ERR_clear_error": (None,),
        "ERR_error_string_n": (None, c_ulong, s, c_size_t),
        "ERR_get_error": (c_ulong,),
        "EVP_DigestSign": (c_int, p, s, POINTER(c_size_t), s, c_size_t),
        "EVP_DigestSignInit_ex": (c_int, p, p, s, p, s, p, p),
        "EVP_MD_CTX_free": (None, p),
        "EVP_MD_CTX_new": (p,),
        "OSSL_PROVIDER_try_load": (p, p, s, c_int),
        "OSSL_STORE_INFO_free": (None, p),
        "OSSL_STORE_INFO_get1_PKEY": (p, p),
        "OSSL_STORE_INFO_get_type": (c_int, p),
        "OSSL_STORE_close": (c_int, p),
        "OSSL_STORE_eof": (c_int, p),
        "OSSL_STORE_load": (p, p),
        "OSSL_STORE_open": (p, s, p, p, p, p),
        "SSL_CTX_get_options": (c_uint64, p),
        "SSL_CTX_use_PrivateKey": (c_int, p, p),
        "SSL_CTX_use_certificate_chain_file": (c_int, p, s),
        "i2d_PUBKEY": (c_int, p, p),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(lib, name, None)
        if function is None and name.startswith("ENGINE_"):
            # OpenSSL 4 has no engines; its providers do the same.
            setattr(lib, name, lambda *_: None)
            continue
        if function is None:
            raise HardwareKeyError(
                f"this Python's OpenSSL ({ssl.OPENSSL_VERSION}) does not show {name}: keys in "
                "hardware need OpenSSL 3 as a library of the system"
            )
        function.restype, function.argtypes = result, arguments
    return lib
