"""How delivery does: lead times, what was refused and taken back, alerts acted on, bytes saved."""

import json
from pathlib import Path

import pytest

from muster_hub.audit import log
from muster_hub.metrics import delivery
from muster_hub.storage import models
from muster_protocol.wire import manifest
from support.console_kit import counted, signed_in
from support.hub_kit import API, Kit, open_kit
from wire_samples import MANIFEST

DAY = 86_400.0
HOUR = 3_600.0


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("delivery"))
    Month(made).fill()
    yield made
    made.close()


class Month:
    """A delivered version, a refused one, one that was taken back, and ten alerts."""

    def __init__(self, kit: Kit) -> None:
        self.kit, self.now = kit, kit.clock()

    def fill(self) -> None:
        with self.kit.hub.store.write() as session:
            self.session = session
            for name in ("cam-1", "cam-2"):
                session.add(models.Device(id=name, created=0.0))
            session.add(models.Model(name="digits", created=0.0))
            session.flush()
            for number, status in (("1", "published"), ("2", "rejected"), ("3", "published"),
                                   ("4", "published")):  # fmt: skip
                self.version(number, status)
            session.flush()
            self.rollout("1", ("started", 20 * DAY), ("completed", 20 * DAY - 6 * HOUR))
            self.rollout("3", ("started", 5 * DAY), ("rolled_back", 5 * DAY - 2 * HOUR))
            self.event("cam-1", "1", 5 * DAY - 2 * HOUR - 60)
            self.event("cam-2", "1", 5 * DAY - 2 * HOUR - 600)
            self.alerts()
            self.windows()

    def version(self, number: str, status: str) -> None:
        self.session.add(
            models.Version(
                model="digits", version=number, manifest_sha256=number * 64,
                manifest=manifest.encode(MANIFEST), status=status, size_bytes=1,
                created=self.now - 20.5 * DAY, created_by="ada",
            )
        )  # fmt: skip

    def rollout(self, version: str, *steps: tuple[str, float]) -> None:
        state = {"completed": "completed", "rolled_back": "rolled_back"}[steps[-1][0]]
        row = models.Rollout(
            model="digits", version=version, manifest=version * 64, slot="vision", selector="",
            state=state, created=self.now - steps[0][1], created_by="ada",
            updated=self.now - steps[-1][1],
        )  # fmt: skip
        self.session.add(row)
        self.session.flush()
        for why, ago in steps:
            self.session.add(
                models.RolloutStep(
                    rollout=row.id, at=self.now - ago, wave=0, why=why, reason=why,
                    state="running" if why == "started" else state,
                )
            )  # fmt: skip
        for device in ("cam-1", "cam-2"):
            self.session.add(
                models.RolloutDevice(
                    rollout=row.id, device=device, wave=0, state="withdrawn", targeted_at=0.0,
                    changed_at=0.0,
                )
            )  # fmt: skip

    def event(self, device: str, version: str, ago: float) -> None:
        self.session.add(
            models.EventRow(
                device=device, kind="update", received=self.now - ago, slot="vision",
                model="digits", version=version, data={"state": "committed"},
            )
        )  # fmt: skip

    def alerts(self) -> None:
        for number in range(10):
            self.session.add(
                models.Alert(
                    key=f"a/{number}", kind="drift", severity="warning", state="resolved",
                    opened=self.now - number * DAY, updated=self.now, title="x", device="cam-1",
                )
            )  # fmt: skip
        self.session.flush()
        for number in (1, 2, 2):
            log.append(self.session, actor="token:ada", action="alert.acknowledge",
                       subject=f"alert/{number}", now=self.now)  # fmt: skip

    def windows(self) -> None:
        self.session.add(
            models.Rollup(level="day", device="", manifest="1" * 64, start=self.now - 2 * DAY,
                          model="digits", version="1", n=1000, payload=b"")
        )  # fmt: skip
        self.session.add(
            models.SummaryWindow(device="cam-1", epoch="e", sequence=1, start=self.now, n=100,
                                 received=self.now, payload=b"x" * 50)
        )  # fmt: skip


def test_a_month_of_delivery_in_numbers(kit: Kit) -> None:
    with kit.hub.store.read() as session:
        found = delivery.read(session, kit.clock(), joules_per_byte=2.0)
        unknown = delivery.read(session, kit.clock())
    assert found.outcomes == {"delivered": 1, "refused": 1, "taken_back": 1, "not_rolled_out": 1}
    assert found.lead_seconds == 0.75 * DAY
    assert found.exposed_seconds == 2 * HOUR
    assert found.back_seconds is not None
    assert (found.alerts, found.alerts_acted, found.alerts_per_device_month) == (10, 2, 5.0)
    assert found.inferences == 1000
    assert found.bytes_sent == 500
    assert found.bytes_raw == 1000 * delivery.row_bytes(manifest.encode(MANIFEST)) > 0
    assert found.joules_saved == 2.0 * (found.bytes_raw - 500)
    assert unknown.joules_saved is None


def test_a_period_without_anything_says_nothing_rather_than_zero(kit: Kit) -> None:
    with kit.hub.store.read() as session:
        found = delivery.read(session, kit.clock() + 400 * DAY, days=7)
    assert (found.releases, found.lead_seconds, found.bytes_sent) == ([], None, None)
    assert found.alerts_per_device_month == 0.0


def test_the_page_the_api_and_the_metrics_say_the_same(kit: Kit) -> None:
    page = signed_in(kit).get("/delivery").text
    assert "How we are doing" in page
    assert "18 h after the push (median)" in page
    headers = kit.as_("viewer")
    view = kit.http.get(f"{API}/delivery", headers=headers).json()
    assert view["outcomes"]["refused"] == 1
    listed = kit.http.get(f"{API}/releases", headers=headers).json()["items"]
    assert {item["version"]: item["outcome"] for item in listed} == {
        "1": "delivered", "2": "refused", "3": "taken_back", "4": "not_rolled_out"
    }  # fmt: skip
    scraped = kit.http.get("/metrics", headers=headers).text
    assert 'muster_delivery_releases{outcome="taken_back"} 1.0' in scraped
    assert "muster_delivery_lead_time_seconds 64800.0" in scraped
    assert 'muster_delivery_bytes{kind="sent"} 500.0' in scraped
    saved = view["joules_saved"]
    assert saved == kit.hub.config.telemetry.joules_per_byte * (view["bytes_raw"] - 500)
    assert f"muster_delivery_energy_saved_joules {saved}" in scraped
    assert "J of the devices' radios (estimated at 5.6e-06 J a byte)" in page


def test_a_period_of_any_size_takes_as_many_statements(kit: Kit, tmp_path: Path) -> None:
    empty = open_kit(tmp_path)
    try:
        taken = []
        for made in (empty, kit):
            with counted(made.hub.store) as seen, made.hub.store.read() as session:
                delivery.read(session, made.clock())
            taken.append(len(seen.texts))
    finally:
        empty.close()
    assert max(taken) <= 12, taken


def test_texts_and_sizes_that_vary_count_as_one() -> None:
    tensors = [{"datatype": "FP32", "shape": [-1, 8, -1]}, {"datatype": "BYTES", "shape": [-1]}]
    assert delivery.row_bytes(json.dumps({"inputs": tensors}).encode()) == 8 * 4 + 4
    assert delivery.row_bytes(b"no manifest") == 0.0
