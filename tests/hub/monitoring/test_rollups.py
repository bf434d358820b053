"""Windows become hours and days, each once; what is old goes; months are read from days."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path

import msgspec
import pytest
from sqlmodel import Session, col, func, select

from muster_hub.access.scope import EVERYTHING
from muster_hub.errors import Invalid
from muster_hub.monitoring import history, reading, rollup_step
from muster_hub.registry.published import Bundles
from muster_hub.settings.retention import Telemetry
from muster_hub.storage import models
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.models import Rollup, SummaryWindow
from muster_protocol.signals import baseline, summary, summary_wire
from muster_protocol.wire import manifest
from muster_protocol.wire.manifest import File
from support.hub_store import open_store
from support.summaries import assert_same, fitted, window
from wire_samples import MANIFEST

DAY = 86_400.0
BEGIN = 100 * DAY
DEVICES = ("cam-1", "cam-2")


class Hub:
    """A database, the blobs of one version with a baseline, and devices that send windows."""

    def __init__(self, directory: Path, url: str) -> None:
        self.store = open_store(directory, *DEVICES, url=url)
        self.blobs = Blobs(directory / "blobs")
        file = baseline.encode(fitted())
        entry = File("baseline.bin", len(file), self.blobs.put(file))
        made = msgspec.structs.replace(
            MANIFEST, model="press", version="1.2", baseline=entry.path,
            files=(*(file for file in MANIFEST.files if file.path != entry.path), entry),
        )  # fmt: skip
        self.manifest = self.blobs.put(manifest.encode(made))
        self.bundles = Bundles(self.store, self.blobs)
        self.sent: dict[str, list[summary.Summary]] = {name: [] for name in DEVICES}

    def send(self, device: str, start: float, **fields: object) -> None:
        sent = self.sent[device]
        item = replace(
            window(40, seed=len(sent), start=start), manifest=self.manifest, cpu_seconds=1.5,
            energy_joules=4.5,
        )  # fmt: skip
        payload = summary_wire.encode(item)
        read = summary_wire.decode(payload, fitted())
        assert isinstance(read, summary.Summary)
        sent.append(read)
        row = SummaryWindow(
            device=device, epoch="00", sequence=len(sent), model="press", version="1.2",
            manifest=self.manifest, start=start, seconds=300.0, n=40, errors=item.counts.errors,
            labels_right=item.counts.labels_right, received=start, payload=payload, folded=True,
        )  # fmt: skip
        with self.store.write() as session:
            session.add(row.sqlmodel_update(fields))
            key = (device, "summary", "00")
            mark = session.get(models.Stream, key) or models.Stream(
                device=device, stream="summary", epoch="00", updated=0.0
            )
            mark.contiguous = len(sent)
            session.add(mark)

    def step(self, now: float) -> int:
        with self.store.write() as session:
            return rollup_step.step(session, self.bundles, now)

    def forget(self, now: float) -> int:
        with self.store.write() as session:
            return rollup_step.forget(session, Telemetry(), now)

    def row(self, session: Session, level: str, device: str, start: float) -> Rollup:
        return session.get_one(Rollup, (level, device, self.manifest, start))

    def history(self, **asked: object) -> list[dict[str, object]]:
        settled = {"model": "press", "level": "day", "since": BEGIN, "until": BEGIN + 30 * DAY}
        with self.store.read() as session:
            return history.read(session, self.blobs.read, **settled | asked)


@pytest.fixture
def hub(tmp_path: Path, database: str) -> Iterator[Hub]:
    made = Hub(tmp_path, database)
    yield made
    made.store.close()


def read(row: Rollup) -> summary.Summary:
    found = summary_wire.decode(row.payload, fitted())
    assert isinstance(found, summary.Summary)
    return found


def test_hours_and_days_are_their_windows_merged_exactly(hub: Hub):
    for number in range(30):
        for device in DEVICES:
            hub.send(device, BEGIN + 300.0 * number)
    while hub.step(BEGIN + DAY):
        pass
    with hub.store.read() as session:
        for device in DEVICES:
            day = hub.row(session, "day", device, BEGIN)
            assert_same(read(day), reduce(summary.merge, hub.sent[device]))
            assert (day.windows, day.n, day.seconds) == (30, 1200, 9000.0)
            first = hub.row(session, "hour", device, BEGIN)
            assert_same(read(first), reduce(summary.merge, hub.sent[device][:12]))
        fleet = hub.row(session, "day", "", BEGIN)
        every = [item for device in DEVICES for item in hub.sent[device]]
        assert_same(read(fleet), reduce(summary.merge, every))
        assert fleet.n == 2400
        last = session.exec(select(func.max(Rollup.start)).where(col(Rollup.level) == "hour"))
        assert last.one() == BEGIN + 7200.0


def test_an_hour_waits_for_its_end_and_a_late_window_is_added_once(hub: Hub):
    hub.send("cam-1", BEGIN)
    assert hub.step(BEGIN + 3600.0) == 0
    assert hub.step(BEGIN + 3600.0 + rollup_step.SETTLED_SECONDS) == 1
    hub.send("cam-1", BEGIN + 300.0)
    assert hub.step(BEGIN + DAY) == 1
    assert hub.step(BEGIN + DAY) == 0
    with hub.store.read() as session:
        for level, device in (("hour", "cam-1"), ("hour", ""), ("day", "cam-1"), ("day", "")):
            assert hub.row(session, level, device, BEGIN).n == 80


def test_what_drift_has_not_seen_or_nobody_can_read_is_not_rolled_up(hub: Hub):
    hub.send("cam-1", BEGIN, folded=False)
    hub.send("cam-1", BEGIN + 300.0, fault="of a version made later", payload=b"\xff")
    assert hub.step(BEGIN + DAY) == 0
    assert hub.forget(BEGIN + 2 * DAY) == 0


def test_what_nobody_can_read_is_kept_as_long_as_any_window_and_no_longer(hub: Hub):
    hub.send("cam-1", BEGIN, folded=False)
    hub.send("cam-1", BEGIN + 300.0, fault="of a version made later", payload=b"\xff")
    assert hub.forget(BEGIN + 1000 * DAY) == 1
    with hub.store.read() as session:
        assert [row.fault for row in session.exec(select(SummaryWindow))] == [""]


def test_old_windows_go_and_nothing_counted_is_lost(hub: Hub):
    for number in range(4):
        hub.send("cam-1", BEGIN + 300.0 * number)
    hub.send("cam-1", BEGIN + 20 * DAY)
    hub.step(BEGIN + DAY)
    with hub.store.read() as session:
        before = reading.counts(session, EVERYTHING, "cam-1")
    assert hub.forget(BEGIN + 13 * DAY) == 0
    assert hub.forget(BEGIN + 15 * DAY) == 4
    with hub.store.read() as session:
        assert len(session.exec(select(SummaryWindow)).all()) == 1
        assert reading.counts(session, EVERYTHING, "cam-1") == before
        assert before["inferences"] == 200
    assert hub.forget(BEGIN + 100 * DAY) == 2
    assert [point["n"] for point in hub.history()] == [160]
    assert hub.forget(BEGIN + 2000 * DAY) == 2
    assert hub.history() == []


def test_history_tells_of_the_fleet_of_a_device_and_of_a_selector(hub: Hub):
    with hub.store.write() as session:
        session.get_one(models.Device, "cam-2").labels = {"site": "berlin"}
    hub.send("cam-1", BEGIN)
    hub.send("cam-2", BEGIN + 60.0)
    hub.send("cam-2", BEGIN + DAY)
    hub.step(BEGIN + 3 * DAY)
    fleet = hub.history()
    assert [(item["start"], item["devices"], item["n"]) for item in fleet] == [
        (BEGIN, 2, 80), (BEGIN + DAY, 1, 40),
    ]  # fmt: skip
    assert {feature["name"] for feature in fleet[0]["features"]} == {
        f.name for f in fitted().features
    }
    assert fleet[0]["p95_seconds"] > 0
    assert (fleet[0]["cpu_seconds"], fleet[0]["energy_joules"]) == pytest.approx((3.0, 9.0))
    assert fleet[0]["labels"] > 0
    assert [item["n"] for item in hub.history(device="cam-1")] == [40]
    some = hub.history(selector="site=berlin")
    assert [(item["devices"], item["n"], item["features"]) for item in some] == [
        (1, 40, []), (1, 40, []),
    ]  # fmt: skip
    assert len(hub.history(level="hour", until=BEGIN + DAY)) == 1
    with pytest.raises(Invalid, match="shorter time"):
        hub.history(level="hour", until=BEGIN + 300 * DAY)
