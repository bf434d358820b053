"""A signed webhook: whoever is there starts the training, and names the candidate to the hub."""

from typing import Any

import msgspec

from muster_hub.alerts import posting
from muster_hub.alerts.channels import webhook
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.loop.pipelines.base import Order, PipelineFault, Run
from muster_hub.settings.loop import LoopTerms


class WebhookPipeline:
    """Signed as alerts are; ``X-Muster-Delivery`` is the order's key."""

    asks = False

    def lacks(self, terms: LoopTerms) -> str:
        return "" if terms.secret_file else "needs a `secret_file`: webhooks are signed"

    def start(self, terms: LoopTerms, secret: str, order: Order) -> Run:
        body: dict[str, Any] = {"type": "train", "key": order.key, **order.body}
        outgoing = Outgoing(order.key, msgspec.json.encode(body), order.at)
        try:
            webhook.post(terms.url, secret.encode(), outgoing)
        except (posting.DeliveryRefused, *posting.FAILURES) as error:
            raise PipelineFault(posting.fault_of(error)) from None
        return Run(order.key, "running")

    def look(self, _terms: LoopTerms, _secret: str, run: str) -> Run:
        return Run(run, "running")


PIPELINE = WebhookPipeline()
