"""A hub on PostgreSQL and a broker of the site's own, in three processes, with devices."""

import subprocess
import time
from pathlib import Path

from sqlmodel import col, func, select

from muster_hub.identity.pki import Pki
from muster_hub.mqtt.external import External
from muster_hub.storage import models
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.store import Store
from muster_protocol.wire import topics
from support.hub_store import batch, event
from support.light_agents import Fleet
from support.ports import HOST, free_port
from support.served import Served
from support.site_broker import SiteBroker
from support.stocked import stock

DEVICES = ("press-1", "press-2", "press-3")
ROWS = 5


class Plant:
    """A hub on PostgreSQL and a broker of the site's own, in three processes, with devices."""

    def __init__(self, directory: Path, url: str) -> None:
        port = free_port()
        self.served = Served(directory / "hub", database=url, broker_url=f"mqtts://{HOST}:{port}")
        config = self.served.config
        self.store, pki = Store(url), Pki(config.ca)
        External(config, pki, self.store, time.time)
        self.broker = SiteBroker(
            pki, config.broker_directory / "crl.pem", directory / "broker", port=port
        )
        files = directory / "devices"
        stock(self.store, Blobs(config.blobs), pki, files, DEVICES)
        self.status = (free_port(), free_port())
        self.agents = Fleet()
        self._files = files

    def start(self) -> None:
        self.broker.start()
        front = self.served.start("--role", "api,ingest")
        self.backs = [self._back(port) for port in self.status]
        for process in (front, *self.backs):
            self.served.await_ready(process)
        for name in DEVICES:
            self.agents.join(name, self.broker.port, self._files, self._files / "ca.pem")

    def _back(self, port: int) -> subprocess.Popen[str]:
        return self.served.start("--role", "engine,publisher", "--http-port", str(port))

    def again(self, number: int) -> None:
        """Start the process of that number anew: it was killed."""
        self.backs[number] = self._back(self.status[number])
        self.served.await_ready(self.backs[number])

    def leases(self, number: int) -> dict[str, int]:
        parts = self.served.health(self.status[number])["parts"]
        leases: dict[str, int] = parts["process"]["leases"]
        return leases

    def send_rows(self) -> None:
        """A batch of each device, as often as this is called."""
        for name in DEVICES:
            rows = batch({sequence: event() for sequence in range(1, ROWS + 1)})
            self.agents.agents[name].link.publish(topics.up(name, "event"), rows)

    def rows(self) -> int:
        table = models.EventRow
        asked = select(func.count()).select_from(table).where(col(table.kind) == "refused")
        with self.store.read() as session:
            return session.exec(asked).one()

    def close(self) -> None:
        self.agents.close()
        for process in self.served.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.broker.stop()
        self.store.close()
