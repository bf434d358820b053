"""Webhooks that admins make through the API: kept in the database, their secrets sealed.

Their deliveries wait in the same queue as those of the receivers in hub.toml, told apart by a
prefix that no name there can have.
"""

import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from sqlmodel import Session, col, delete, func, select

from muster_hub.alerts import messages, posting
from muster_hub.alerts.channels import webhook
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.errors import ConfigError, Conflict, Invalid, NotFound
from muster_hub.storage.alerting import Webhook, WebhookDelivery
from muster_hub.storage.sealing import Sealing

ORIGIN = "webhook"
PREFIX = f"{ORIGIN}/"
WEBHOOKS_MAX = 32
SECRET_PREFIX = "mwh_"  # noqa: S105 - marks our secrets for scanners
SECRET_BYTES = 32


def find(session: Session, name: str) -> Webhook:
    """A webhook by its name; raises NotFound."""
    row = session.get(Webhook, name)
    if row is None:
        raise NotFound(f"there is no webhook {name!r}")
    return row


def create(
    session: Session,
    sealing: Sealing,
    *,
    name: str,
    url: str,
    notices: Sequence[str],
    causes: Sequence[str],
    now: float,
    by: str,
) -> tuple[Webhook, str]:
    """A new webhook and its secret. The caller's transaction holds the audit log's lock already,
    so that two at once can't exceed the limit. Raises Conflict or Invalid."""
    if session.get(Webhook, name) is not None:
        raise Conflict(f"there is a webhook {name!r} already: change or remove that one")
    if session.exec(select(func.count()).select_from(Webhook)).one() >= WEBHOOKS_MAX:
        raise Conflict(f"there are {WEBHOOKS_MAX} webhooks, the most there may be: remove one")
    row = Webhook(
        name=name, url=check_url(url), notices=list(notices), causes=list(causes), secret=b"",
        secret_made=now, created=now, created_by=by,
    )  # fmt: skip
    secret = renew_secret(row, sealing, now)
    session.add(row)
    session.flush()
    return row, secret


def renew_secret(row: Webhook, sealing: Sealing, now: float) -> str:
    """Give a webhook a new secret; its text, which is told once."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    row.secret = sealing.seal(PREFIX + row.name, secret.encode())
    row.secret_made = now
    return secret


def remove(session: Session, row: Webhook) -> None:
    """Remove a webhook with what still waits for it."""
    waiting = col(WebhookDelivery.ended).is_(None)
    session.exec(
        delete(WebhookDelivery).where(col(WebhookDelivery.receiver) == PREFIX + row.name, waiting)
    )
    session.delete(row)


def check_url(url: str) -> str:
    """``url`` if something can be posted there; raises Invalid."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        parts, known = urlsplit(""), None
    if (
        not known
        or not url.isascii()
        or any(character <= " " or character == "\x7f" for character in url)
    ):
        raise Invalid(f"url: {url[:200]!r} is not an http or https address")
    if parts.username is not None or parts.password is not None:
        raise Invalid("url: leave user and password out of it: deliveries are signed instead")
    return url


def send(row: Webhook, sealing: Sealing, delivery: str, body: bytes, now: float) -> str:
    """One attempt; what went wrong, empty when it was taken."""
    try:
        key = sealing.open(PREFIX + row.name, row.secret)
        webhook.post(row.url, key, Outgoing(delivery, body, now))
    except (posting.DeliveryRefused, ConfigError, *posting.FAILURES) as error:
        return posting.fault_of(error)
    return ""


def note(row: Webhook, fault: str, now: float) -> None:
    """Remember how the latest attempt went."""
    row.tried, row.fault = now, fault


def test_body(by: str, now: float) -> bytes:
    """The body that ``muster webhook test`` delivers."""
    return messages.test(f"test delivery, asked for by {by}", now)
