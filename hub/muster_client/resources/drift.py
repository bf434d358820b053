"""What devices see now beside what their models were trained on."""

from collections.abc import Iterator
from typing import cast

from muster_client.answers import Alert, Drift, Rebaseline
from muster_client.failures import WrongUsage
from muster_client.resources.base import Resource
from muster_client.transport import part


class Drifts(Resource):
    """Drift by device and model."""

    def show(
        self, device: str | None = None, *, selector: str | None = None, model: str | None = None
    ) -> Iterator[Drift]:
        """Each feature's distribution beside the baseline: of one device, with its trend, or of
        those that a selector matches."""
        if (device is None) == (selector is None):
            raise WrongUsage("name a DEVICE, or several with --selector")
        if device is not None:
            page = self._api.get(f"/devices/{part(device)}/drift", model=model)
            return iter(page["items"])
        found = self._api.pages("/drift", selector=selector, model=model)
        return cast("Iterator[Drift]", found)

    def explain(self, alert: int) -> Alert:
        """A drift alert: its ``detail`` says which features moved and with which peers, its
        ``advice`` what to do."""
        found: Alert = self._api.get(f"/alerts/{alert}")
        if found["kind"] != "drift":
            raise WrongUsage(f"alert {alert} is not about drift: {found['title']}")
        return found

    def rebaseline(self, device: str, model: str) -> Rebaseline:
        """Take what a model sees on a device now as normal there: its drift alert resolves."""
        path = f"/devices/{part(device)}/rebaseline"
        found: Rebaseline = self._api.post(path, {"model": model})
        return found
