"""TUF files over HTTP, each bounded in bytes and in time: for the command line, not for devices.

A device follows the broker; this serves tools that drive the same trust store against a plain
repository.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tuf.api import exceptions

from muster_agent.base import drip
from muster_protocol.wire import limits

TIMEOUT_SECONDS = 10.0
"""For one read; the whole answer is bounded by its least rate."""
ABSENT = frozenset({403, 404})


class HttpFiles:
    """``get(name)`` fetches ``<base>/<name>``; None when the server has no such file."""

    def __init__(
        self,
        base: str,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        urlopen: Callable[..., Any] = urllib.request.urlopen,
        bytes_max: int = limits.TUF_METADATA_BYTES_MAX,
    ) -> None:
        self._base = base.rstrip("/")
        self._monotonic = monotonic
        self._bytes_max = bytes_max
        self._urlopen = urlopen
        if not self._base.startswith(("http://", "https://")):
            raise exceptions.DownloadError(f"{base!r} is not an http(s) address")

    def get(self, name: str) -> bytes | None:
        """Raises DownloadError; more than ``bytes_max`` bytes come cut, to be refused by name."""
        url = f"{self._base}/{name}"
        request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
        try:
            with self._urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return self._read(url, answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in ABSENT:
                    return None
                raise exceptions.DownloadHTTPError(f"{url}: {error.code}", error.code) from None
        except (OSError, http.client.HTTPException) as error:
            raise exceptions.DownloadError(f"{url}: {error}") from None

    def _read(self, url: str, answer: http.client.HTTPResponse) -> bytes:
        try:
            return drip.read(answer, self._bytes_max, self._monotonic)
        except drip.TooSlow as error:
            raise exceptions.SlowRetrievalError(f"{url}: {error}") from None
