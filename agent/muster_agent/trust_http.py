"""TUF files over HTTP, each bounded in bytes and in time: for the command line, not for devices.

A device follows the broker; this serves tools that drive the same trust store against a plain
repository. An answer that drips in more slowly than ``BYTES_PER_SECOND_MIN`` is a slow retrieval
attack, or a link too poor to be worth waiting for, and says so.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tuf.api import exceptions

from muster_protocol import limits

TIMEOUT_SECONDS = 10.0
"""For one read; the whole answer is bounded by its least rate."""
GRACE_SECONDS = 10.0
BYTES_PER_SECOND_MIN = 1024
PIECE_BYTES = 64 * limits.KIB
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
        begun = self._monotonic()
        data = bytearray()
        while len(data) <= self._bytes_max:
            piece = answer.read1(min(PIECE_BYTES, self._bytes_max + 1 - len(data)))
            if not piece:
                break
            data += piece
            seconds = self._monotonic() - begun
            if seconds > GRACE_SECONDS + len(data) / BYTES_PER_SECOND_MIN:
                raise exceptions.SlowRetrievalError(
                    f"{url}: {len(data)} bytes in {seconds:.0f} s, slower than "
                    f"{BYTES_PER_SECOND_MIN} bytes/s (a slow retrieval attack, or a bad link)"
                )
        return bytes(data)
