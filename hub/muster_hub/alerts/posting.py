"""One attempt at telling an HTTP receiver something."""

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0
FAULT_CHARS_MAX = 300
FAILURES = (OSError, ValueError, http.client.HTTPException)
"""What else than Refused an attempt may raise; errors of SMTP are an OSError, too."""


class DeliveryRefused(Exception):
    """The receiver did not take a delivery; the message says what it answered."""


def post(url: str, body: bytes, headers: dict[str, str], *, secret: bool = False) -> None:
    """Post JSON; an answer of 2xx is all that counts. Raises Refused or one of FAILURES.

    ``secret``: whoever knows the address may write there, so faults name its host alone.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DeliveryRefused("its address is no http or https address")
    shown = parts.hostname if secret else url
    asked = urllib.request.Request(  # noqa: S310 - http and https only
        url, body, {"Content-Type": "application/json", "User-Agent": "muster-hub"} | headers
    )
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        opener.open(asked, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        with error:
            raise DeliveryRefused(f"{shown} answered {error.code}") from None


def fault_of(error: Exception) -> str:
    """What went wrong, short enough to be kept."""
    words = str(error) if isinstance(error, DeliveryRefused) else f"{type(error).__name__}: {error}"
    return words[:FAULT_CHARS_MAX]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A signed body goes where the operator said, nowhere else."""

    def redirect_request(self, *_arguments: object) -> None:
        return None
