"""The engine's picture of the fleet follows what is committed, however long that took."""

from pathlib import Path

import pytest

from muster_hub.fleet.fleet import OVERLAP_SECONDS, Fleet
from muster_hub.mqtt.intake import Intake
from muster_protocol.wire import topics
from support.hub_store import open_store, report

NOW = 1_000_000.0


@pytest.mark.parametrize("waited_seconds", [0.0, OVERLAP_SECONDS - 0.5, 60.0])
def test_a_report_that_waited_long_to_be_written_is_seen_by_the_next_look(
    tmp_path: Path, database: str, waited_seconds: float
) -> None:
    store = open_store(tmp_path, "dev-1", url=database)
    clock = [NOW]
    fleet = Fleet()
    intake = Intake(store, lambda _seconds: True, clock=lambda: clock[0])
    message = topics.up("dev-1", "report"), report()
    with store.read() as session:
        fleet.follow(session, clock[0])
    clock[0] += waited_seconds
    with store.read() as session:
        assert fleet.follow(session, clock[0]) == set()
    assert intake.take([message], NOW) is not None
    with store.read() as session:
        assert fleet.follow(session, clock[0] + 0.1) == {"dev-1"}
    assert fleet.known["dev-1"].report is not None
    store.close()
