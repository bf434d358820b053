"""Mosquitto with the configuration that we ship for sites, changed as a test says."""

import re
import time
from pathlib import Path

from muster_hub.identity.pki import Pki
from muster_hub.mqtt.broker import own_user
from support.mosquitto import Mosquitto
from support.ports import HOST, free_port

DEPLOY = Path(__file__).parents[2] / "deploy" / "mosquitto"


class SiteBroker(Mosquitto):
    """``crl`` is the hub's list of revoked devices, which must be there when it starts."""

    def __init__(
        self,
        pki: Pki,
        crl: Path,
        directory: Path,
        changes: dict[str, str] | None = None,
        port: int | None = None,
        now: float | None = None,
    ) -> None:
        self.port = port or free_port()
        self.place = directory
        directory.mkdir()
        (directory / "ca.pem").write_bytes(pki.ca_pem)
        pair = pki.issue_server((HOST,), now or time.time())
        (directory / "server.pem").write_bytes(pair.certificate_pem)
        (directory / "server.key").write_bytes(pair.key_pem)
        self.crl = crl
        text = (DEPLOY / "mosquitto.conf").read_text()
        text = text.replace("/etc/mosquitto/muster/crl.pem", str(self.crl))
        text = text.replace("/etc/mosquitto/muster/", f"{directory}/")
        text = text.replace("/etc/mosquitto/muster.acl", str(DEPLOY / "muster.acl"))
        text = text.replace("/var/lib/mosquitto/", f"{directory}/")
        text = text.replace("listener 8883", f"listener {self.port} {HOST}")
        for line, other in (changes or {}).items():
            text, count = re.subn(rf"^{line}$", other, text, flags=re.MULTILINE)
            assert count, line
        user = own_user()
        self._log = directory / "mosquitto.log"
        self._config = directory / "mosquitto.conf"
        self._config.write_text(text + (f"\nuser {user}\n" if user else "\n"))
        self._process = None
