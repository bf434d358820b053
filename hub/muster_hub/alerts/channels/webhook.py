"""Signed webhooks: the event's JSON, with an HMAC that only the receiver's key can make."""

import base64
import hashlib
import hmac

from muster_hub.alerts import posting
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.settings.alerts import Receiver


class WebhookChannel:
    """A receiver in hub.toml; webhooks made through the API are sent by ``post`` as well."""

    def lacks(self, receiver: Receiver) -> str:
        if not receiver.url:
            return "needs a `url`"
        return "" if receiver.secret_file else "needs a `secret_file`: webhooks are signed"

    def secret_file(self, receiver: Receiver) -> str:
        return receiver.secret_file

    def send(self, receiver: Receiver, secret: bytes, delivery: Outgoing) -> None:
        post(receiver.url, secret, delivery)


CHANNEL = WebhookChannel()


def post(url: str, key: bytes, delivery: Outgoing) -> None:
    """Post a body with its signature. Raises posting.DeliveryRefused or one of posting.FAILURES."""
    timestamp = int(delivery.at)
    headers = {
        "X-Muster-Delivery": delivery.id,
        "X-Muster-Timestamp": str(timestamp),
        "X-Muster-Signature": sign(key, delivery.id, timestamp, delivery.body),
    }
    posting.post(url, delivery.body, headers)


def sign(key: bytes, delivery: str, timestamp: int, body: bytes) -> str:
    """``v1,<base64>`` of HMAC-SHA256 over ``delivery.timestamp.body``."""
    signed = b".".join((delivery.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
