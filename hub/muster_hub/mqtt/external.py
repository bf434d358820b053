"""A broker that the site runs itself: how the hub comes to it, and its list of revoked devices.

Such a broker takes a certificate's common name for user and client id, or one device could pose as
another. So each of the hub's connections has a certificate with a name of its own, which no device
can have; and one in a device's name ends that device's connection.
"""

import fcntl
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

from muster_hub.heartbeats import Heartbeats
from muster_hub.identity.pki import Pki
from muster_hub.mqtt import probe
from muster_hub.mqtt.access import BrokerFiles, Gatekeeper
from muster_hub.mqtt.broker import BrokerError
from muster_hub.mqtt.client import parse_url
from muster_hub.settings.config import HubConfig
from muster_hub.storage.files import make_private_directory, write_durably
from muster_hub.storage.store import Store
from muster_protocol.wire.addresses import joined

RELOAD_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Identities:
    """Client certificates of the hub's own authority, made for each connection."""

    def __init__(self, directory: Path, pki: Pki, now: Callable[[], float]) -> None:
        self._directory = directory
        self._pki = pki
        self._now = now

    def __call__(self, client_id: str) -> tuple[Path, Path]:
        """Certificate and key for a connection under this client id."""
        made = make_private_directory(self._directory)
        certificate, key = made / f"{client_id}.pem", made / f"{client_id}.key"
        pair = self._pki.issue_client(client_id, self._now())
        write_durably(key, pair.key_pem, mode=0o600)
        write_durably(certificate, pair.certificate_pem)
        return certificate, key


class External:
    """Wires what the hub needs for such a broker, and refuses one that is unsafe."""

    def __init__(
        self,
        config: HubConfig,
        pki: Pki,
        store: Store,
        now: Callable[[], float],
        heartbeats: Heartbeats | None = None,
    ) -> None:
        """Raises MusterError for a URL that names no broker."""
        make_private_directory(config.broker_directory)
        files = BrokerFiles(config.broker_directory, pki, store)
        self._identities = Identities(config.broker_directory / "identities", pki, now)
        self._revoked = files.prepare_external(now())
        self._ca = files.ca
        self._public = config.broker_public
        self.address = parse_url(config.broker.url, ca=files.ca, identities=self._identities)
        self._files = files
        self._reload = reloader(config.broker.reload)
        self._now = now
        self._heartbeats = heartbeats
        self._probing = config.broker_directory / "probe.lock"
        self.warnings: dict[str, str] = {}

    def gatekeeper(self) -> Gatekeeper:
        """What keeps its list of revoked devices; one of the hub's processes starts it."""
        return Gatekeeper(
            self._files,
            self.address,
            reload=self._reload,
            now=self._now,
            heartbeats=self._heartbeats,
        )

    def examine(self) -> None:
        """Try whether it keeps devices apart. Raises BrokerError when not, or when out of reach."""
        host, port = self._public
        question = probe.Question(
            hub=self.address,
            host=host,
            port=port,
            ca=self._ca,
            identities=self._identities,
            revoked=self._revoked,
        )
        try:
            with self._probing.open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)  # Each process asks under the same name.
                found = probe.inspect(question)
        except OSError as error:
            raise BrokerError(
                f"the broker at {joined(self.address.host, self.address.port)}, for devices at "
                f"{joined(host, port)}, can't be tried out: {error}"
            ) from None
        unsafe = [finding for finding in found if finding.unsafe]
        if unsafe:
            unsafe_in_words = "; ".join(f"{finding.name}: {finding.text}" for finding in unsafe)
            raise BrokerError(f"the broker at {joined(host, port)} is unsafe: {unsafe_in_words}")
        self.warnings = {finding.name: finding.text for finding in found}
        for name, text in self.warnings.items():
            _log.warning("the broker at %s:%d: %s: %s", host, port, name, text)


def reloader(command: tuple[str, ...]) -> Callable[[], None]:
    """What has the broker read ``crl.pem`` again; without a command that is the site's affair."""

    def reload() -> None:
        if not command:
            return
        try:
            subprocess.run(
                command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=RELOAD_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "stderr", None) or error
            _log.error("[broker] reload %s failed: %s", list(command), str(reason).strip())

    return reload
