"""Fetching over HTTP: bounded, resumed where it broke off, and checked before it counts."""

import hashlib
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from muster_client.failures import OperatorError, Unreachable, WrongUsage
from muster_client.importers.base import SMALL_BYTES_MAX

TRIES = 5
WAIT_SECONDS = 0.5
"""Before the second try; twice as long before each one after it, and a little at random."""
TIMEOUT = httpx.Timeout(10.0, read=60.0)
PART = ".part"
TAG = ".etag"


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is fetched."""

    size_bytes: int | None = None
    sha256: str = ""
    git_sha1: str = ""
    """Git's own name of the content."""


class Web:
    """A server that models are fetched from. ``what`` is its name for messages."""

    def __init__(
        self, what: str, url: str, *, headers: Mapping[str, str], hint: str = "", auth: Any = None
    ) -> None:
        """``hint`` says what to do when it asks who we are. Raises WrongUsage for an odd URL."""
        if not url.startswith(("http://", "https://")):
            raise WrongUsage(f"{what}: {url!r} is no http:// or https:// URL")
        self.what = what
        self.url = url.rstrip("/")
        self._hint = hint
        self._http = httpx.Client(
            base_url=self.url, headers=dict(headers), timeout=TIMEOUT, follow_redirects=True,
            auth=auth,
        )  # fmt: skip

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def json(self, path: str, /, **parameters: str) -> Any:
        """The answer to GET as JSON; raises ``ServerRefused``, Unreachable, OperatorError."""
        data = self.small(path, **parameters)
        try:
            return httpx.Response(200, content=data).json()
        except ValueError:
            raise OperatorError(f"{self.what} at {self.url}: {path} is no JSON") from None

    def small(self, path: str, /, **parameters: str) -> bytes:
        """A small file's content."""
        data = bytearray()
        try:
            with self._http.stream("GET", path, params=parameters) as answer:
                self._check(answer, path)
                for piece in answer.iter_bytes():
                    data += piece
                    if len(data) > SMALL_BYTES_MAX:
                        raise OperatorError(
                            f"{self.what}: {path} is larger than {SMALL_BYTES_MAX} bytes"
                        )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        return bytes(data)

    def file(self, path: str, target: Path, expected: Expected, bytes_max: int) -> None:
        """Fetch into ``target``, from where an earlier try ended; one that is there is kept.

        Raises OperatorError for what is larger than ``bytes_max``, or isn't what was expected.
        """
        if expected.size_bytes is not None and expected.size_bytes > bytes_max:
            raise self._too_large(path, bytes_max)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART)
        for number in range(TRIES):
            if number:
                # The server or the way to it needs a moment.
                time.sleep(WAIT_SECONDS * 2 ** (number - 1) * random.uniform(1, 1.5))  # noqa: S311 - jitter, no secret
            try:
                self._attempt(path, part, bytes_max)
                break
            except httpx.TransportError as error:
                failure = error
        else:
            raise self._unreachable(failure)
        self._verify(path, part, expected)
        part.rename(target)
        _tag_of(part).unlink(missing_ok=True)

    def _attempt(self, path: str, part: Path, bytes_max: int) -> None:
        headers = {}
        tag = _tag_of(part)
        have = part.stat().st_size if part.exists() else 0
        if have and tag.exists():
            headers = {"Range": f"bytes={have}-", "If-Range": tag.read_text(encoding="utf-8")}
        with self._http.stream("GET", path, headers=headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # All of it is here already.
            self._check(answer, path)
            goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
            if goes_on and not answer.headers.get("content-range", "").startswith(f"bytes {have}-"):
                raise OperatorError(f"{self.what}: {path}: it sent another part than was asked for")
            if not goes_on:
                have = 0
                tag.unlink(missing_ok=True)
                strong = answer.headers.get("etag", "")
                if strong.startswith('"'):
                    tag.write_text(strong, encoding="utf-8")
            with part.open("ab" if goes_on else "wb") as file:
                for piece in answer.iter_bytes():
                    have += len(piece)
                    if have > bytes_max:
                        part.unlink()
                        tag.unlink(missing_ok=True)
                        raise self._too_large(path, bytes_max)
                    file.write(piece)

    def _verify(self, path: str, part: Path, expected: Expected) -> None:
        size = part.stat().st_size
        wrong = ""
        if expected.size_bytes is not None and size != expected.size_bytes:
            wrong = f"{size} bytes came, {expected.size_bytes} were announced"
        elif expected.sha256 and digest_of(part) != expected.sha256:
            wrong = "its SHA-256 isn't the one announced"
        elif expected.git_sha1 and _git_sha1(part) != expected.git_sha1:
            wrong = "its digest isn't the one announced"
        if wrong:
            part.unlink()
            _tag_of(part).unlink(missing_ok=True)
            raise OperatorError(f"{self.what}: {path}: {wrong}; it was thrown away")

    def _check(self, answer: httpx.Response, path: str) -> None:
        if not answer.is_error:
            return
        answer.read()
        raise ServerRefused(self.what, path, answer.status_code, _message(answer), self._hint)

    def _too_large(self, path: str, bytes_max: int) -> OperatorError:
        return OperatorError(
            f"{self.what}: {path} is larger than the {bytes_max} bytes that a bundle may still have"
        )

    def _unreachable(self, error: Exception) -> Unreachable:
        says = str(error).rstrip(".") or type(error).__name__
        return Unreachable(f"{self.what} doesn't answer at {self.url}: {says}")


class ServerRefused(OperatorError):
    """A server that models are fetched from said no."""

    def __init__(self, what: str, path: str, status: int, says: str, hint: str) -> None:
        advice = f". {hint}" if hint and status in {401, 403} else ""
        super().__init__(f"{what} refused {path} (HTTP {status}): {says}{advice}")
        self.status = status
        self.says = says


def _message(answer: httpx.Response) -> str:
    with suppress(ValueError, AttributeError):
        body = answer.json()
        found = body.get("message") or body.get("error") or body.get("detail")
        if isinstance(found, str):
            return found[:500]
    return answer.reason_phrase or "no reason given"


def digest_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _tag_of(part: Path) -> Path:
    return part.with_name(part.name + TAG)
