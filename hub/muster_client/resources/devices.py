"""Devices, and tokens that let new ones in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

from muster_client.answers import Counts, Device, Retry, TokenAnswer
from muster_client.failures import OperatorError
from muster_client.resources.base import Resource
from muster_client.transport import part


class DeviceInFull(Device):
    """A device with what the hub has counted of it."""

    counts: Counts


class RestartAsked(TypedDict):
    """``muster device restart``."""

    device: str
    request: int
    until: float


class LogAsked(TypedDict):
    """A request to send a log, by its number."""

    device: str
    request: int


class LogLine(TypedDict):
    """One line of a device's log."""

    number: int
    received: float
    at: float
    level: str
    logger: str
    line: str


class DiagnosisAsked(TypedDict):
    """A request to look at what is wrong, by its number."""

    device: str
    request: int


class DiagnosisLine(TypedDict):
    """One thing that a device found."""

    grade: str
    check: str
    line: str


class Diagnosis(TypedDict):
    """What a device answered last, and to which request."""

    device: str
    asked: int
    answered: int
    received: float | None
    lines: list[DiagnosisLine]


def relabelled(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Labels after changes: what is None is taken away."""
    kept = {key: value for key, value in labels.items() if key not in changes}
    return kept | {key: value for key, value in changes.items() if value is not None}


class FeedsAsked(TypedDict):
    """A request to tell of feeds, by its number."""

    device: str
    request: int


class Feeds(TypedDict):
    """What a device told of its feeds last, by their names."""

    device: str
    asked: int
    asked_at: float | None
    live: bool
    received: float | None
    feeds: dict[str, dict[str, Any]]


class Devices(Resource):
    """Devices by their ids."""

    def list(self, selector: str | None = None, limit: int | None = None) -> Iterator[Device]:
        """Devices by id, each with its latest report; all when ``limit`` is None."""
        found = self._api.pages("/devices", limit, selector=selector)
        return cast("Iterator[Device]", found)

    def show(self, device: str) -> DeviceInFull:
        """One device, and what the hub has counted of it."""
        found: DeviceInFull = self._api.get(f"/devices/{part(device)}")
        found["counts"] = self._api.get(f"/devices/{part(device)}/counts")
        return found

    def search(self, text: str, limit: int | None = None) -> Iterator[Device]:
        """Devices whose id or labels hold a text, whatever its case, by id."""
        found = self._api.pages("/devices", limit, holding=text)
        return cast("Iterator[Device]", found)

    def label(self, device: str, changes: Mapping[str, str | None]) -> Device:
        """Set labels of a device, or take away those that are None; the others stay."""

        def change(before: Device) -> dict[str, Any] | None:
            after = relabelled(before["labels"], changes)
            return None if after == before["labels"] else {"labels": after}

        found: Device = self._api.revise(f"/devices/{part(device)}", change)
        return found

    def rename(self, device: str, name: str) -> Device:
        """Give a device a name that people know it by, as its label ``name``.

        Its id is in its certificate and stays. Raises OperatorError for a name that another has.
        """
        for other in self.list(f"name={name}"):
            if other["id"] != device:
                raise OperatorError(f"{other['id']} has the name {name} already")
        return self.label(device, {"name": name})

    def replace(self, device: str, *, expires_seconds: float = 3600) -> TokenAnswer:
        """End a machine's identity at once; the token with which another takes over its name."""
        body = {"expires_seconds": expires_seconds}
        made: TokenAnswer = self._api.post(f"/devices/{part(device)}/replace", body)
        return made

    def delete(self, device: str) -> None:
        """Take a device that was revoked, or never heard of, off every list, for good."""
        self._api.delete(f"/devices/{part(device)}")

    def enroll_token(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        uses: int = 1,
        expires_seconds: float = 3600,
        device: str | None = None,
        approval: bool = False,
    ) -> TokenAnswer:
        """A token with which ``uses`` devices get a certificate and these labels. With ``approval``
        each gets nothing to run before ``approve``; ``device`` is the only id it is good for."""
        body: dict[str, Any] = {
            "labels": dict(labels or {}),
            "uses": uses,
            "expires_seconds": expires_seconds,
            "approval": approval,
        }
        if device:
            body["device"] = device
        made: TokenAnswer = self._api.post("/enroll-tokens", body)
        return made

    def approve(self, device: str) -> Device:
        """Let a device have something to run that enrolled with a token for approval."""
        found: Device = self._api.post(f"/devices/{part(device)}/approve", {})
        return found

    def retry(self, device: str, slot: str | None = None) -> Retry:
        """Have a device try anew what one slot, or any of its slots, has refused."""
        found: Retry = self._api.post(f"/devices/{part(device)}/retry", {"slot": slot})
        return found

    def restart(self, device: str) -> RestartAsked:
        """Have its agent start anew, once; it obeys until ``until`` or not at all."""
        found: RestartAsked = self._api.post(f"/devices/{part(device)}/restart", {})
        return found

    def diagnose(self, device: str) -> DiagnosisAsked:
        """Ask a device what is wrong on it; it answers when it has a link."""
        found: DiagnosisAsked = self._api.post(f"/devices/{part(device)}/diagnose", {})
        return found

    def diagnosis(self, device: str) -> Diagnosis:
        """What it answered last, and to which request."""
        found: Diagnosis = self._api.get(f"/devices/{part(device)}/diagnosis")
        return found

    def watch_log(self, device: str) -> LogAsked:
        """Have a device send its agent's log, for two minutes."""
        found: LogAsked = self._api.post(f"/devices/{part(device)}/logs", {})
        return found

    def logs(self, device: str, *, after: int = 0, limit: int = 100) -> Sequence[LogLine]:
        """What it has sent behind the line ``after``, the oldest first."""
        answer = self._api.get(f"/devices/{part(device)}/logs", after=after, limit=limit)
        found: Sequence[LogLine] = answer["lines"]
        return found

    def watch_feeds(self, device: str) -> FeedsAsked:
        """Have a device tell how its feeds stand, for two minutes."""
        found: FeedsAsked = self._api.post(f"/devices/{part(device)}/feeds", {})
        return found

    def feeds(self, device: str) -> Feeds:
        """What it told of its feeds last."""
        found: Feeds = self._api.get(f"/devices/{part(device)}/feeds")
        return found

    def revoke(self, device: str) -> Device:
        """Withdraw a device's identity for good."""
        found: Device = self._api.post(f"/devices/{part(device)}/revoke", {})
        return found
