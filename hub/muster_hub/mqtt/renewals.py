"""Certificates renewed over the broker: its mutual TLS has proved who asks."""

import logging
from collections.abc import Callable

from muster_hub.errors import HubError
from muster_hub.identity import enrolment
from muster_hub.identity.pki import Pki
from muster_hub.storage.models import OutboxMessage
from muster_hub.storage.store import Store
from muster_protocol.wire import topics

_log = logging.getLogger(__name__)


class Renewals:
    """Called with a device and its request, it answers on ``down/<device>/cert``."""

    def __init__(
        self, store: Store, pki: Pki, answered: Callable[[], None], now: Callable[[], float]
    ) -> None:
        """``answered`` is called when an answer waits to be published."""
        self._store = store
        self._pki = pki
        self._answered = answered
        self._now = now

    def __call__(self, device: str, csr_pem: str) -> None:
        try:
            with self._store.write() as session:
                now = self._now()
                pem = enrolment.renew(session, self._pki, device, csr_pem, now)
                topic = topics.down(device, "cert")
                message = OutboxMessage(
                    topic=topic, payload=pem.encode(), retain=False, created=now
                )
                session.add(message)
        except HubError as refused:
            _log.warning("%s gets no new certificate: %s", device, refused)
        else:
            self._answered()
