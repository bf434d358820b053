"""A device's trust client as the supervisor drives it: mirror, then store, over a dict broker."""

from collections.abc import Mapping
from pathlib import Path

from muster_agent.trust.mirror import ABSENT_SECONDS, TrustMirror
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import DAY_SECONDS, ClockReading
from muster_agent.trust.trusted import Trusted
from support.tuf_repository import NOW, Repository

RIGHT = ClockReading(NOW, "synchronised")
YEAR_1970 = ClockReading(60.0, "unknown")
YEAR_2100 = ClockReading(4_102_444_800.0, "synchronised")


class TrustDevice:
    def __init__(self, directory: Path, factory_root: bytes) -> None:
        self.directory = directory / "trust"
        self.directory.mkdir(parents=True)
        (self.directory / "root.json").write_bytes(factory_root)
        self.models = frozenset({"digits"})
        self.asked: set[str] = set()
        self.restart()

    def restart(self) -> None:
        self.store = TrustStore(self.directory)

    def update(self, broker: Mapping[str, bytes], reading: ClockReading = RIGHT) -> Trusted:
        """One cycle against what the broker retains; raises TrustRefused."""
        now = 0.0
        mirror = TrustMirror(self.store.versions(), self.models, now=now)
        while fresh := (mirror.wanted() & broker.keys()) - mirror.files.keys():
            self.asked |= mirror.wanted()
            for file in sorted(fresh):
                mirror.put(file, broker[file], now)
        now += ABSENT_SECONDS
        assert mirror.due(now) or "timestamp.json" not in broker
        try:
            return self.store.refresh(mirror.files, mirror.models, reading)
        finally:
            mirror.refreshed(self.store.versions(), now)

    def assert_updates(
        self, repository: Repository, version: str = "9.9.9", reading: ClockReading | None = None
    ) -> None:
        """The end of every attack: the honest hub can still bring this device a new release."""
        digest = repository.release("digits", version)
        trusted = self.update(
            repository.files, reading or ClockReading(repository.now, "synchronised")
        )
        found = trusted.manifest_target("digits", version, now=repository.now)
        assert found is not None
        assert found[0] == digest


__all__ = ["DAY_SECONDS", "NOW", "RIGHT", "YEAR_1970", "YEAR_2100", "Repository", "TrustDevice"]
