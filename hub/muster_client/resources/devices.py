"""Devices, and tokens that let new ones in."""

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, cast

from muster_client.answers import Counts, Device, Retry, TokenAnswer
from muster_client.resources.base import Resource
from muster_client.transport import part


class DeviceInFull(Device):
    """A device with what the hub has counted of it."""

    counts: Counts


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

    def diagnose(self, device: str) -> DiagnosisAsked:
        """Ask a device what is wrong on it; it answers when it has a link."""
        found: DiagnosisAsked = self._api.post(f"/devices/{part(device)}/diagnose", {})
        return found

    def diagnosis(self, device: str) -> Diagnosis:
        """What it answered last, and to which request."""
        found: Diagnosis = self._api.get(f"/devices/{part(device)}/diagnosis")
        return found

    def revoke(self, device: str) -> Device:
        """Withdraw a device's identity for good."""
        found: Device = self._api.post(f"/devices/{part(device)}/revoke", {})
        return found
