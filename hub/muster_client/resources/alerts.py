"""Alerts: what needs somebody's attention, and what nobody is to hear of for now."""

from collections.abc import Iterator
from typing import Literal, cast

from muster_client.answers import Alert, Silence
from muster_client.resources.base import Resource

State = Literal["open", "acknowledged", "resolved"]


class Alerts(Resource):
    """Alerts and silences by their numbers."""

    def list(self, state: State | None = None, limit: int | None = None) -> Iterator[Alert]:
        """Alerts, the newest first; all when ``limit`` is None."""
        return cast("Iterator[Alert]", self._api.pages("/alerts", limit, state=state))

    def ack(self, alert: int) -> Alert:
        """Say that somebody is looking at it. It stays until it clears."""
        found: Alert = self._api.post(f"/alerts/{alert}/acknowledge")
        return found

    def resolve(self, alert: int) -> Alert:
        """Close it. It opens anew when its cause returns."""
        found: Alert = self._api.post(f"/alerts/{alert}/resolve")
        return found

    def silence(self, selector: str, *, hours: float, reason: str = "") -> Silence:
        """Send nobody the alerts of these devices for a while; they are still listed."""
        body = {"selector": selector, "seconds": hours * 3600, "reason": reason}
        found: Silence = self._api.post("/silences", body)
        return found

    def silences(self) -> Iterator[Silence]:
        """The silences that hold, the newest first."""
        return cast("Iterator[Silence]", self._api.pages("/silences"))

    def unsilence(self, silence: int) -> None:
        """End a silence now: what still stands is sent."""
        self._api.post(f"/silences/{silence}/end")
