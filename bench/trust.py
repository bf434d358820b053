"""What trust costs a device: refreshing, judging a directive, memory.

    make bench-trust            # or: python -m bench.trust [--rounds 30]

A real Mosquitto over mutual TLS retains a catalogue of 100 models × 10 versions, made by the hub's
own code; a device follows it for one slot with the agent's own link, mirror and store. Bytes are
those on the wire, TLS included, counted both ways by a proxy. Milliseconds are medians. The wait
for a root that does not exist (``ABSENT_SECONDS`` of silence after each connect) is by design and
not in them. Writes ``bench/results/trust.json`` and the table in ``bench/README.md``.
"""

# ruff: noqa: E402 - the tests' broker is found only after the path is set

import argparse
import json
import os
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # its broker and its authority

from tuf.api.metadata import Metadata, TargetFile, Targets, Timestamp

from muster_agent.link.link import Connected, LinkEvent, Message
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.trust.mirror import ABSENT_SECONDS, TrustMirror
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import BUILD_TIME, DAY_SECONDS, ClockReading, Instant
from muster_hub.signing import keys
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_protocol.wire import manifest, topics
from muster_protocol.wire.directive import Directive, Goal, Slot
from support.mosquitto import Mosquitto
from support.pki import Authority

RESULTS = HERE / "results" / "trust.json"
README = HERE / "README.md"
BEGIN, END = "<!-- trust: begin -->", "<!-- trust: end -->"
MODELS, VERSIONS = 100, 10
NOW = BUILD_TIME + DAY_SECONDS
READING = ClockReading(float(NOW), "synchronised")
WAIT_SECONDS = 30.0
SLOT_MODEL = "model-042"
LIMITS = {
    "no_change_ms": 15, "no_change_bytes": 1024, "cold_ms": 50, "cold_bytes": 65536,
    "directive_verify_ms": 1, "rss_bytes": 12 * 2**20,
}  # fmt: skip


def make_catalogue(directory: Path) -> tuple[Catalogue, keys.Keyring]:
    """Models one by one, but a model's versions at once: 100 signings instead of 1,000."""
    keyring = keys.create_keyring(directory / "keys", None)
    catalogue = Catalogue(directory / "tuf", keyring)
    catalogue.create(NOW)
    for number in range(MODELS):
        model = f"model-{number:03}"
        role = Targets()
        for version in range(1, VERSIONS):
            path = manifest.target_path(model, f"1.{version}.0")
            role.targets[path] = TargetFile.from_data(path, path.encode(), ["sha256"])
        draft = directory / "tuf" / "drafts" / f"{manifest.role_name(model)}.json"
        draft.parent.mkdir(exist_ok=True)
        draft.write_bytes(Metadata(role).to_bytes())
        assert catalogue.release(model, f"1.{VERSIONS}.0", b"manifest", NOW)
    return catalogue, keyring


class Proxy:
    """Forwards one TCP port to another and counts the bytes of both ways."""

    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            for pair in ((near, far), (far, near)):
                for item in pair:
                    item.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.bytes += len(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for item in (source, sink):
                item.close()

    def close(self) -> None:
        self._listener.close()


class Party:
    """A client of the broker with the agent's own link."""

    def __init__(self, name: str, authority: Authority, port: int) -> None:
        pair = authority.issue(name)
        settings = MqttSettings("127.0.0.1", port, name, pair.key, pair.cert, authority.cert)
        self.inbox: queue.Queue[LinkEvent] = queue.Queue()
        today = Instant(int(time.time()), "synchronised")
        will = (topics.up(name, "presence"), b"")
        self.link = MqttLink(settings, will, self.inbox.put, lambda: today)
        self.link.start()
        assert self.inbox.get(timeout=WAIT_SECONDS) == Connected()


class Device(Party):
    """Follows the catalogue for one slot; ``now`` stands still but for the silence by design."""

    def begin(self, store: TrustStore) -> None:
        self.store = store
        self.mirror = TrustMirror(store.versions(), frozenset({SLOT_MODEL}), now=0.0)
        self.followed: frozenset[str] = frozenset()
        self.follow()

    def follow(self) -> None:
        wanted = self.mirror.wanted()
        if gone := self.followed - wanted:
            self.link.unsubscribe(*map(topics.tuf, gone))
        if new := wanted - self.followed:
            self.link.subscribe(*map(topics.tuf, new))
        self.followed = wanted

    def take(self) -> None:
        """Take files in until only roots that don't exist are missing."""
        while True:
            event = self.inbox.get(timeout=WAIT_SECONDS)
            if isinstance(event, Message) and (file := topics.parse_tuf(event.topic)):
                self.mirror.put(file, event.payload, 0.0)
                self.follow()
                missing = self.mirror.wanted() - self.mirror.files.keys()
                if all(name.endswith(".root.json") for name in missing):
                    return

    def verify(self) -> None:
        assert self.mirror.due(ABSENT_SECONDS + 1)
        trusted = self.store.refresh(self.mirror.files, self.mirror.models, READING)
        self.mirror.refreshed(self.store.versions(), ABSENT_SECONDS + 1)
        assert trusted.manifest_target(SLOT_MODEL, f"1.{VERSIONS}.0", now=NOW)


def publish(hub: Party, files: dict[str, bytes]) -> None:
    for file, data in files.items():
        while not hub.link.publish(topics.tuf(file), data, retain=True):
            time.sleep(0.005)  # the link is connecting


def measure(rounds: int, directory: Path) -> dict[str, Any]:
    catalogue, keyring = make_catalogue(directory)
    files = catalogue.files_to_publish()
    timestamp = files["timestamp.json"]
    authority = Authority(directory)
    samples: dict[str, list[float]] = {
        name: [] for name in ("cold_ms", "cold_bytes", "no_change_ms", "no_change_bytes")
    }
    with Mosquitto(directory, authority) as broker:
        proxy = Proxy(broker.port)
        hub, device = Party("hub", authority, broker.port), Device("dev-1", authority, proxy.port)
        publish(hub, files)
        time.sleep(1.0)  # the broker keeps what was published
        for number in range(rounds):
            store = fresh_store(directory / f"device-{number}", catalogue)
            before, begun = proxy.bytes, time.perf_counter()
            device.begin(store)
            device.take()
            device.verify()
            samples["cold_ms"].append((time.perf_counter() - begun) * 1000)
            device.follow()
            time.sleep(0.05)  # acknowledgements count, too
            samples["cold_bytes"].append(proxy.bytes - before)
            timestamp = renewed(timestamp, keyring)
            before, begun = proxy.bytes, time.perf_counter()
            publish(hub, {"timestamp.json": timestamp})
            device.take()
            device.verify()
            samples["no_change_ms"].append((time.perf_counter() - begun) * 1000)
            time.sleep(0.05)  # the acknowledgements go by before the bytes are read
            samples["no_change_bytes"].append(proxy.bytes - before)
            device.link.unsubscribe(*map(topics.tuf, device.followed))
            time.sleep(0.02)  # what was sent before the unsubscribe still comes
        for party in (hub, device):
            party.link.stop()
        proxy.close()
    results: dict[str, Any] = {name: median(values) for name, values in samples.items()}
    results["directive_verify_ms"] = verify_directives(catalogue, keyring, device.store, rounds)
    results["rss_bytes"] = rss(directory, files)
    return results


def fresh_store(directory: Path, catalogue: Catalogue) -> TrustStore:
    directory.mkdir()
    (directory / "root.json").write_bytes(catalogue.factory_root())
    return TrustStore(directory)


def renewed(timestamp: bytes, keyring: keys.Keyring) -> bytes:
    """The timestamp signed anew, as every two days: nothing else changes."""
    metadata = Metadata[Timestamp].from_bytes(timestamp)
    metadata.signed.version += 1
    metadata.sign(keyring.online_signer("timestamp"))
    return metadata.to_bytes()


def verify_directives(
    catalogue: Catalogue, keyring: keys.Keyring, store: TrustStore, rounds: int
) -> float:
    goal = Goal(model=SLOT_MODEL, version="1.1.0", manifest="ab" * 32, manifest_bytes=1000)
    wanted = Directive(
        device="dev-1", epoch=catalogue.director_epoch, generation=1, issued=NOW,
        expires=NOW + DAY_SECONDS, slots={"main": Slot(champion=goal)},
    )  # fmt: skip
    envelope = DirectiveSigner(keyring.online_signer("director")).sign(wanted)
    trusted = store.trusted()
    assert trusted is not None
    values = []
    for _ in range(10 * rounds):
        begun = time.perf_counter()
        trusted.verify_directive(envelope)
        values.append((time.perf_counter() - begun) * 1000)
    return median(values)


RSS_SCRIPT = """
import json, os, pathlib, sys
import msgspec, paho.mqtt.client, ssl, http.client, sqlite3, logging, queue
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
import muster_agent.identity.identity, muster_agent.link.mqtt, muster_agent.storage.state
def rss():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
before = rss()
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import Reading
directory, now = pathlib.Path(sys.argv[1]), float(sys.argv[2])
files = {path.name: path.read_bytes() for path in (directory / "files").iterdir()}
store = TrustStore(directory)
if files:
    for _ in range(3):
        store.refresh(files, frozenset({sys.argv[3]}), Reading(now, "synchronised"))
print(rss() - before)
"""


def rss(directory: Path, files: dict[str, bytes]) -> float:
    """What trust adds to a process that has the link, identity and state loaded."""
    values = []
    for number in range(3):
        place = directory / f"rss-{len(files)}-{number}"
        (place / "files").mkdir(parents=True)
        (place / "root.json").write_bytes((directory / "tuf" / "1.root.json").read_bytes())
        for name, data in files.items():
            if ".model-" not in name or SLOT_MODEL in name:
                (place / "files" / name).write_bytes(data)
        arguments = [str(place), str(NOW), SLOT_MODEL]
        run = subprocess.run(
            [sys.executable, "-c", RSS_SCRIPT, *arguments],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        values.append(float(run.stdout))
    return median(values)


def median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def table(results: dict[str, Any]) -> str:
    def row(what: str, name: str, unit: str, scale: float = 1.0) -> str:
        value, most = results[name] / scale, LIMITS[name] / scale
        digits = 0 if scale == 1 and unit == "bytes" else 2
        return f"| {what} | {value:,.{digits}f} {unit} | {most:,.0f} {unit} |"

    lines = [
        "| | measured | wanted, at most |\n|---|---|---|",
        row("refresh without change, from the hub's publish to verified", "no_change_ms", "ms"),
        row("… bytes on the wire, both ways, TLS included", "no_change_bytes", "bytes"),
        row(f"cold refresh of one slot among {MODELS} models × {VERSIONS} versions",
            "cold_ms", "ms"),
        row("… bytes on the wire", "cold_bytes", "bytes"),
        row("verifying a directive", "directive_verify_ms", "ms"),
        row("memory that trust adds to the agent", "rss_bytes", "MB", 2**20),
    ]  # fmt: skip
    lines.append(f"\n{results['rounds']} rounds; {results['machine']}.")
    return "\n".join(lines)


def write_readme(text: str) -> None:
    readme = README.read_text()
    if BEGIN in readme:
        head, rest = readme.split(BEGIN)
        tail = rest.split(END)[1]
        README.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as directory:
        results = measure(rounds, Path(directory))
    results |= {
        "rounds": rounds,
        "models": MODELS,
        "versions": VERSIONS,
        "wanted_at_most": LIMITS,
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {sys.version.split()[0]}",
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    write_readme(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
