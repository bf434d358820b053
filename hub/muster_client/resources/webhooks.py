"""Webhooks: who gets alerts, beside the receivers in the hub's settings."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

from muster_client.answers import Webhook, WebhookMade, WebhookTested
from muster_client.resources.base import Resource
from muster_client.transport import part


class Webhooks(Resource):
    """Webhooks by name."""

    def list(self) -> Iterator[Webhook]:
        """Webhooks by name and how their latest delivery went; never their secrets."""
        return cast("Iterator[Webhook]", self._api.pages("/webhooks"))

    def show(self, name: str) -> Webhook:
        """One webhook, without its secret."""
        found: Webhook = self._api.get(f"/webhooks/{part(name)}")
        return found

    def add(
        self, name: str, url: str, *, on: Iterable[str] = (), causes: Iterable[str] = ()
    ) -> WebhookMade:
        """A webhook, with the secret that signs what it gets, which comes this once. ``on`` left
        empty is opened, escalated and resolved; ``causes`` left empty is all kinds of alert."""
        body: dict[str, Any] = {"name": name, "url": url, "causes": list(causes)}
        events = list(on)
        made: WebhookMade = self._api.post("/webhooks", body | ({"on": events} if events else {}))
        return made

    def test(self, name: str) -> WebhookTested:
        """Deliver something now; ``taken`` says whether it was."""
        found: WebhookTested = self._api.post(f"/webhooks/{part(name)}/test")
        return found

    def renew(self, name: str) -> WebhookMade:
        """Make a new secret, which comes this once; the old one signs nothing more."""
        made: WebhookMade = self._api.post(f"/webhooks/{part(name)}/secret")
        return made

    def remove(self, name: str) -> None:
        """Send it nothing more; what waits for it is dropped."""
        self._api.delete(f"/webhooks/{part(name)}")
