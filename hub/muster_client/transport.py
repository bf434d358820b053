"""The hub's HTTP API as the operator uses it: JSON in and out, failures as one line."""

import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx

from muster_client.failures import OperatorError, Refused, Unreachable, WrongUsage, from_problem
from muster_client.profile import Profile

API = "/api/v1"
PAGE = 200
TRIES = 6
"""Of a request that the hub asks to send again in a moment; it has done nothing of it."""
PAUSE_SECONDS_MAX = 10
_random = random.SystemRandom()
TIMEOUT = httpx.Timeout(10.0, read=60.0)
Item = dict[str, Any]


def connect(profile: Profile, timeout_seconds: float | None = None) -> httpx.Client:
    """A client that trusts the profile's CA and presents its token."""
    timeout = TIMEOUT if timeout_seconds is None else httpx.Timeout(timeout_seconds)
    try:
        verify = ssl.create_default_context(
            cafile=profile.ca or None, cadata=profile.ca_pem or None
        )
        # The hub's authority may be somebody else's: then that one is trusted, not its issuer.
        verify.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    except OSError as error:
        where = f"CA file {profile.ca}" if profile.ca else "ca_pem of the profile"
        raise WrongUsage(f"{where}: {error.strerror or 'no certificate in it'}") from None
    headers = {"Authorization": f"Bearer {profile.token}"} if profile.token else {}
    return httpx.Client(
        base_url=profile.hub.rstrip("/"), headers=headers, verify=verify, timeout=timeout
    )


class Api:
    """One hub. Paths are below ``/api/v1``."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @property
    def url(self) -> str:
        """Address of the hub, without a slash at its end."""
        return str(self._http.base_url).rstrip("/")

    def get(self, path: str, **parameters: Any) -> Any:
        """The answer to GET; parameters that are None are left out. Raises OperatorError."""
        return self._json("GET", path, params=_given(parameters))

    def raw(self, path: str, **parameters: Any) -> bytes:
        """The answer to GET as it came: a file. Raises OperatorError."""
        try:
            answer = self._http.get(API + path, params=_given(parameters))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_error:
            raise _refused(answer)
        return answer.content

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to POST. Raises OperatorError."""
        return self._json("POST", path, json=body)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to PUT. Raises OperatorError."""
        return self._json("PUT", path, json=body)

    def delete(self, path: str) -> None:
        """DELETE, which answers nothing. Raises OperatorError."""
        self._json("DELETE", path)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to PATCH. Raises OperatorError."""
        return self._json("PATCH", path, json=body)

    def revise(self, path: str, change: Callable[[Any], Mapping[str, Any] | None]) -> Any:
        """GET, and PATCH with what ``change`` makes of that, unless it is None; the last answer.

        Raises OperatorError, also when somebody else changed it in between.
        """
        before = self._answer("GET", path)
        found = before.json()
        body = change(found)
        if body is None:
            return found
        headers = {"If-Match": before.headers["ETag"]} if "ETag" in before.headers else {}
        return self._json("PATCH", path, json=body, headers=headers)

    def upload(
        self, path: str, manifest: bytes, files: Mapping[str, BinaryIO], timeout: float = 600.0
    ) -> Any:
        """POST a manifest and its files as one multipart form; files are read as they are sent."""
        form: list[Any] = [("manifest", ("manifest.json", manifest, "application/json"))]
        form += [
            ("files", (name, file, "application/octet-stream")) for name, file in files.items()
        ]
        return self._json("POST", path, files=form, timeout=timeout)

    def send_file(self, path: str, name: str, file: BinaryIO, timeout: float = 600.0) -> Any:
        """POST one file, which is read as it is sent."""
        form = [("file", (name, file, "application/octet-stream"))]
        return self._json("POST", path, files=form, timeout=timeout)

    def pages(self, path: str, limit: int | None = None, **parameters: Any) -> Iterator[Item]:
        """Items of a paged collection, at most ``limit`` of them."""
        return islice(self._pages(path, limit, parameters), limit)

    def _pages(self, path: str, limit: int | None, parameters: Item) -> Iterator[Item]:
        cursor: str | None = None
        size = min(limit or PAGE, PAGE)
        while True:
            page = self.get(path, limit=size, cursor=cursor, **parameters)
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return

    def stream(self, path: str, **parameters: Any) -> Iterator["ServerEvent"]:
        """Server-sent events until the hub or the operator ends them."""
        # Silence is normal between events: only connecting is bounded.
        waiting = httpx.Timeout(10.0, read=None)
        headers = {"Accept": "text/event-stream"}
        try:
            with self._http.stream(
                "GET", API + path, headers=headers, timeout=waiting, params=_given(parameters)
            ) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refused(answer)
                yield from parse_events(answer.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The hub's answer; when it asks to come back in a moment, that of a later try."""
        for left in reversed(range(TRIES)):
            try:
                answer = self._http.request(method, API + path, **request)
            except httpx.HTTPError as error:
                raise self._unreachable(error) from None
            pause = _pause(answer)
            if pause is None or not left:
                break
            time.sleep(pause * _random.uniform(1.0, 1.3))  # jittered: callers don't return together
        if answer.is_error:
            raise _refused(answer)
        return answer

    def _json(self, method: str, path: str, **request: Any) -> Any:
        answer = self._answer(method, path, **request)
        if answer.status_code == httpx.codes.NO_CONTENT or not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise OperatorError(
                f"{self.url} does not answer like a hub ({method} {API}{path} gave no JSON): "
                "check --hub"
            ) from None

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        says = str(error).rstrip(".") or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in says:
            return Unreachable(
                f"{self.url}: its certificate is not signed by the CA given: "
                "pass the hub's CA with --ca FILE"
            )
        if isinstance(_cause(error), socket.gaierror):
            return Unreachable(
                f"{self.url}: the name {self._http.base_url.host} doesn't resolve here ({says}). "
                "Give it to this machine's DNS or hosts file: the hub's certificate is for it"
            )
        return Unreachable(
            f"no hub answers at {self.url}: {says}. Is `muster-hub serve` running there?"
        )


@dataclass(frozen=True)
class ServerEvent:
    """One event of a server-sent stream."""

    id: str
    kind: str
    data: str


def parse_events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """Events of a ``text/event-stream``; comments and unknown fields are skipped."""
    fields: dict[str, list[str]] = {}
    last_id = ""
    for line in lines:
        if not line:
            if "data" in fields:
                last_id = fields.get("id", [last_id])[-1]
                kind = fields.get("event", ["message"])[-1]
                yield ServerEvent(last_id, kind, "\n".join(fields["data"]))
            fields = {}
            continue
        name, _, value = line.partition(":")
        if name:
            fields.setdefault(name, []).append(value.removeprefix(" "))


def _refused(answer: httpx.Response) -> Refused:
    where = f"{answer.request.method} {answer.request.url.path}"
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    return from_problem(answer.status_code, problem if isinstance(problem, dict) else {}, where)


def _pause(answer: httpx.Response) -> float | None:
    """For how long the hub says to wait, in seconds; None when it doesn't, or too long."""
    text = answer.headers.get("Retry-After", "")
    if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or not text.isdecimal():
        return None
    return float(text) if len(text) <= 2 and int(text) <= PAUSE_SECONDS_MAX else None


def _cause(error: BaseException | None) -> BaseException | None:
    """What an error began with."""
    while error is not None and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__
    return error


def _given(parameters: Mapping[str, Any]) -> Item:
    return {name: value for name, value in parameters.items() if value is not None}


def part(name: str) -> str:
    """A name as one part of a path, whatever is in it."""
    return quote(name, safe="")
