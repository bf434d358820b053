"""Send what waits: one thread, one attempt at a time, each delivery until it is taken.

An answer of 2xx means taken. Anything else is tried again, later and later with jitter, under the
same delivery id; after ``ATTEMPTS_MAX`` attempts (about two days) it is given up and says why.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlmodel import Session, col, select

from muster_hub.alerts import posting, webhooks
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.alerts.channels.registry import CHANNELS
from muster_hub.errors import ConfigError
from muster_hub.heartbeats import Heartbeats
from muster_hub.settings.alerts import Alerts, Receiver
from muster_hub.storage.alerting import Webhook, WebhookDelivery
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store
from muster_protocol.registry import UnknownWordError

SILENT_SECONDS = 900.0
"""A round of receivers that do not answer takes minutes."""
POLL_SECONDS = 1.0
BATCH = 20
ATTEMPTS_MAX = 60
RETRY_SECONDS = (2.0, 3600.0)

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class WebhookSender:
    """Sends deliveries while started. Raises ConfigError for a receiver that can't be used."""

    def __init__(
        self,
        store: Store,
        settings: Alerts,
        directory: Path,
        sealing: Sealing,
        *,
        now: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = _random.uniform,
        heartbeats: Heartbeats | None = None,
        hub: str = "",
    ) -> None:
        """``directory``: what key and password files are relative to; ``sealing``: how the
        secrets of webhooks in the database are kept; ``hub``: its address, which messages link."""
        self._hub = hub
        self._store = store
        self._sealing = sealing
        self._receivers = {receiver.name: receiver for receiver in settings.receivers}
        self._secrets = {
            receiver.name: _secret(receiver, directory) for receiver in settings.receivers
        }
        self._now = now
        self._uniform = uniform
        self._stopping = threading.Event()
        self._part = (heartbeats or Heartbeats()).part("notifier", SILENT_SECONDS)
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin to send what waits, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the delivery in hand."""
        self._stopping.set()
        self._thread.join()

    def send_due(self) -> int:
        """One attempt at each delivery that is due; how many were taken."""
        with self._store.read() as session:
            due = session.exec(
                select(WebhookDelivery)
                .where(
                    col(WebhookDelivery.ended).is_(None), col(WebhookDelivery.due) <= self._now()
                )
                .order_by(col(WebhookDelivery.due))
                .limit(BATCH)
            ).all()
        taken = 0
        for delivery in due:
            if self._stopping.is_set():
                break
            fault, gone = self._attempt(delivery)
            with self._store.write() as session:
                self._note(session, delivery.id, fault, gone=gone)
            taken += not fault
        return taken

    def _attempt(self, delivery: WebhookDelivery) -> tuple[str, bool]:
        """What went wrong, empty when it was taken; and whether the receiver is gone for good."""
        origin, _, name = delivery.receiver.rpartition("/")
        if origin == webhooks.ORIGIN:
            with self._store.read() as session:
                row = session.get(Webhook, name)
            if row is None:
                return "the webhook was removed", True
            return webhooks.send(row, self._sealing, delivery.id, delivery.body, self._now()), False
        receiver = self._receivers.get(delivery.receiver)
        if receiver is None and origin:
            return f"this hub has no receivers that are called {origin}/…", True
        if receiver is None:
            return "hub.toml names no such receiver any more", True
        try:
            CHANNELS[receiver.kind].send(
                receiver,
                self._secrets[receiver.name],
                Outgoing(delivery.id, delivery.body, self._now(), self._hub),
            )
        except (posting.DeliveryRefused, *posting.FAILURES) as error:
            return posting.fault_of(error), False
        return "", False

    def _note(self, session: Session, number: str, fault: str, *, gone: bool) -> None:
        row = session.get(WebhookDelivery, number)
        if row is None:
            return
        now = self._now()
        row.attempts += 1
        row.fault = fault
        if not fault or gone or row.attempts >= ATTEMPTS_MAX:
            row.ended = now
        else:
            least, most = RETRY_SECONDS
            delay = min(least * 2.0 ** min(row.attempts - 1, 20), most)
            row.due = now + self._uniform(delay / 2, delay)
        if fault:
            _log.warning("%s did not take delivery %s: %s", row.receiver, row.id, fault)
        session.add(row)
        hook = session.get(Webhook, row.receiver.removeprefix(webhooks.PREFIX))
        if hook is not None and row.receiver.startswith(webhooks.PREFIX):
            webhooks.note(hook, fault, now)

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS * _random.uniform(0.8, 1.2)):
            try:
                while self.send_due() == BATCH:
                    self._part.alive()
            except Exception as error:
                _log.exception("alerts could not be sent; trying again")
                self._part.retrying(error)
                self._stopping.wait(_random.uniform(1.0, 3.0))
            else:
                self._part.beat()


def _secret(receiver: Receiver, directory: Path) -> bytes:
    """A webhook's key or a mailbox's password; raises ConfigError."""
    where = f"hub.toml: receiver {receiver.name!r}"
    try:
        channel = CHANNELS.find(receiver.kind)
    except UnknownWordError as error:
        raise ConfigError(f"{where}: {error}") from None
    lacks = channel.lacks(receiver)
    if lacks:
        raise ConfigError(f"{where} {lacks}")
    name = channel.secret_file(receiver)
    if not name:
        return b""
    try:
        secret = (directory / name).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{where}: {directory / name}: {error.strerror}") from None
    if not secret:
        raise ConfigError(f"{where}: {directory / name} is empty")
    return secret
