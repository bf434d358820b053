"""A device's capability to fetch chunks: ``<device>:<expires>:<HMAC-SHA256>``. Kept nowhere.

Pure.
"""

import hashlib
import hmac


def mint(key: bytes, device: str, expires: int) -> str:
    """A token for ``device`` until ``expires``, seconds since 1970."""
    return f"{device}:{expires}:{_mac(key, device, expires)}"


def check(key: bytes, token: str, now: float) -> str | None:
    """The device a token names, or None when the token is forged, malformed or expired."""
    device, _, rest = token.partition(":")
    expires_text, _, mac = rest.partition(":")
    if not expires_text.isdecimal() or len(expires_text) > 15 or not mac.isascii():
        return None
    expires = int(expires_text)
    if not hmac.compare_digest(mac, _mac(key, device, expires)) or now >= expires:
        return None
    return device


def _mac(key: bytes, device: str, expires: int) -> str:
    return hmac.new(key, f"chunks:{device}:{expires}".encode(), hashlib.sha256).hexdigest()
