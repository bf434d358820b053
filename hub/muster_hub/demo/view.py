"""Reading the hub's answers: what runs where, who refused what, which alerts there are."""

from dataclasses import dataclass
from typing import Any

from muster_client.transport import Api


@dataclass(frozen=True)
class SlotView:
    """A slot as its device last reported it."""

    version: str = ""
    runtime: str = ""
    state: str = ""


class FleetView:
    """The fleet as the API shows it, for the demo's checks."""

    def __init__(self, api: Api, slot: str) -> None:
        self._api = api
        self._slot = slot

    def device(self, name: str) -> dict[str, Any]:
        """One device's view."""
        view: dict[str, Any] = self._api.get(f"/devices/{name}")
        return view

    def online(self, name: str) -> bool:
        """Whether the hub counts it as online."""
        return bool(self.device(name).get("online"))

    def slot(self, name: str) -> SlotView:
        """What a device reports of the demo's slot."""
        report = self.device(name).get("report") or {}
        slot = (report.get("slots") or {}).get(self._slot) or {}
        running = slot.get("running") or {}
        return SlotView(
            version=running.get("version", ""),
            runtime=running.get("runtime", ""),
            state=(slot.get("update") or {}).get("state", ""),
        )

    def counts(self, name: str) -> tuple[int, int]:
        """Inferences and labels that the hub has counted of a device."""
        counts = self._api.get(f"/devices/{name}/counts")
        labels = sum(version["labels"] for version in counts["label_accuracy"].values())
        return counts["inferences"], labels

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Every event of a kind so far."""
        return [event for event in self._api.pages("/events") if event.get("kind") == kind]

    def refusals(self, version: str) -> dict[str, str]:
        """Each device's reason for refusing a version, from its own events."""
        return {
            event["device"]: event["refusal"]
            for event in self.events("refused")
            if event.get("version") == version
        }

    def drift_alerts(self) -> list[dict[str, Any]]:
        """Every alert of drift so far."""
        return [alert for alert in self._api.pages("/alerts") if alert.get("kind") == "drift"]

    def windows(self, name: str) -> list[dict[str, Any]]:
        """Every telemetry window of a device."""
        return list(self._api.pages(f"/devices/{name}/windows"))
