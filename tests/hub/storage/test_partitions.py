"""Windows by day on a real PostgreSQL: made ahead, dropped by age, brought there while written."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlmodel import col, delete, func, select

from muster_hub.access.scope import EVERYTHING
from muster_hub.admin import main
from muster_hub.errors import ConfigError
from muster_hub.monitoring import reading, rollup_step
from muster_hub.mqtt.intake import Intake
from muster_hub.settings.retention import Telemetry
from muster_hub.storage import models, partitions
from muster_hub.storage.models import SummaryWindow
from muster_hub.storage.partitions import BEFORE, OTHER, Partition
from muster_hub.storage.store import Store
from muster_protocol.wire import topics
from support.hub_engine import Plant
from support.hub_store import batch, open_store, summary
from support.postgres import Postgres

DAY = partitions.DAY_SECONDS
NOON = 20_000 * DAY + DAY / 2
DEVICES = ("dev-1", "dev-2")
KEPT = Telemetry()


@pytest.fixture
def store(tmp_path: Path, postgres_server: Postgres) -> Iterator[Store]:
    made = open_store(tmp_path, *DEVICES, url=postgres_server.fresh())
    yield made
    made.close()


class Sender:
    """A device that sends its windows one after the other, each received at a time of its own."""

    def __init__(self, store: Store, device: str = "dev-1") -> None:
        self.sent = 0
        self._topic = topics.up(device, "telemetry")
        self._intake = Intake(store, lambda _seconds: True)

    def send(self, now: float, *, sequence: int | None = None) -> None:
        self.sent += sequence is None
        row = {sequence or self.sent: summary(1)}
        assert self._intake.take([(self._topic, batch(row))], now) is not None
        assert self._intake.counters.set_aside == 0


def step(store: Store, now: float, raw_days: int = KEPT.raw_days) -> int:
    with store.write() as session:
        return partitions.step(session.connection(), raw_days, now)


def forget(store: Store, now: float) -> int:
    with store.write() as session:
        return rollup_step.forget(session, KEPT, now)


def named(store: Store) -> list[Partition]:
    with store.read() as session:
        return partitions.partitions(session.connection())


def names(store: Store) -> list[str]:
    return sorted(part.name for part in named(store))


def held(store: Store) -> dict[str, int]:
    """Windows by the partition that they are in."""
    with store.read() as session:
        rows = session.connection().execute(text(
            "SELECT tableoid::regclass::text, count(*) FROM summary_window GROUP BY 1"
        ))  # fmt: skip
        return {row[0]: row[1] for row in rows}


def rolled(store: Store) -> None:
    with store.write() as session:
        for row in session.exec(select(SummaryWindow)):
            row.folded = row.rolled = True
            session.add(row)


def day(at: float) -> str:
    return f"summary_window_{at // DAY:.0f}"


def test_a_plan_covers_a_week_ahead_and_lets_go_of_what_ended_long_ago():
    old = [Partition(f"p{n}", n * DAY, (n + 1) * DAY) for n in range(100, 103)]
    made = partitions.plan(old, raw_days=2, now=104 * DAY)
    assert [item / DAY for item in made.made] == list(range(104, 112))
    assert [item.name for item in made.old] == ["p100", "p101"]
    before = Partition(BEFORE, float("-inf"), 110 * DAY)
    assert [d / DAY for d in partitions.plan([before], 14, 104 * DAY).made] == [110, 111]
    many = [Partition(f"p{n}", n * DAY, (n + 1) * DAY) for n in range(50)]
    assert len(partitions.plan(many, 2, 100 * DAY).old) == partitions.DROPPED_MAX


def test_days_are_made_ahead_once_and_dropped_by_age(store: Store):
    sender = Sender(store)
    assert step(store, NOON) > 0
    assert step(store, NOON) == 0
    later = NOON + partitions.BOUND_DAYS * DAY
    step(store, later)
    assert day(later) in names(store)
    assert day(later + partitions.AHEAD_DAYS * DAY) in names(store)
    sender.send(later)
    assert held(store) == {day(later): 1}
    old = later + (KEPT.raw_days + 1) * DAY
    step(store, old)
    assert held(store) == {day(later): 1}  # not in its hour and day yet
    rolled(store)
    assert forget(store, old) == 0  # not one by one: with its day
    step(store, old)
    assert held(store) == {}
    assert day(later) not in names(store)
    assert BEFORE not in names(store)


def test_what_comes_after_its_day_was_dropped_or_before_it_was_made_is_kept_and_goes_one_by_one(
    store: Store,
):
    step(store, NOON)
    sender, away = Sender(store), NOON + 40 * DAY
    sender.send(away)  # no engine has been there since
    assert held(store) == {OTHER: 1}
    step(store, away)
    assert day(away) not in names(store)  # its rows are elsewhere already
    assert day(away + DAY) in names(store)
    sender.send(away + 60.0)
    assert held(store) == {OTHER: 2}
    rolled(store)
    assert forget(store, away + (KEPT.raw_days + 1) * DAY) == 2
    assert held(store) == {}


def test_a_window_sent_again_after_midnight_is_in_one_day_only(store: Store):
    step(store, NOON)
    sender, first = Sender(store), NOON + 10 * DAY
    step(store, first)
    sender.send(first, sequence=2)
    sender.send(first + DAY, sequence=2)
    sender.send(first + DAY, sequence=1)
    sender.send(first + DAY, sequence=2)
    assert held(store) == {day(first): 1, day(first + DAY): 1}


def test_a_day_that_waits_for_a_window_lets_go_of_the_others_after_a_while(store: Store):
    step(store, NOON)
    sender, first = Sender(store), NOON + 10 * DAY
    step(store, first)
    sender.send(first)
    rolled(store)
    sender.send(first)
    old = first + (KEPT.raw_days + 1) * DAY
    step(store, old)
    assert forget(store, old) == 0
    assert forget(store, old + partitions.STUCK_DAYS * DAY) == 1
    assert held(store) == {day(first): 1}


def test_who_holds_the_table_is_not_waited_for(store: Store):
    with store.write() as session:
        session.exec(select(SummaryWindow)).all()
        assert step(store, NOON) == 0
    assert step(store, NOON) > 0


def test_a_table_is_brought_to_partitions_while_it_is_written_and_loses_nothing(store: Store):
    senders = [Sender(store, name) for name in DEVICES]
    for sender in senders:
        for number in range(100):
            sender.send(NOON - number * 600.0)
    stop, errors = threading.Event(), []

    def write(sender: Sender) -> None:
        try:
            while not stop.is_set():
                sender.send(NOON)
                sender.send(NOON + 60.0, sequence=max(sender.sent - 3, 1))  # and again
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=write, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    partitions.convert(store, NOON)
    with store.read() as session:
        assert partitions.is_partitioned(session.connection())
    reached = [sender.sent for sender in senders]
    until = time.monotonic() + 60.0
    while any(s.sent < n + 20 for s, n in zip(senders, reached, strict=True)):
        assert time.monotonic() < until
        assert not errors
        stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert errors == []
    step(store, NOON)
    with store.read() as session:
        counts = select(
            SummaryWindow.device, func.count(), func.count(func.distinct(SummaryWindow.sequence))
        ).group_by(col(SummaryWindow.device))
        found = sorted(session.exec(counts).all())
    assert found == [(name, s.sent, s.sent) for name, s in zip(DEVICES, senders, strict=True)]
    assert set(held(store)) == {BEFORE}
    partitions.convert(store, NOON)  # once more changes nothing
    assert set(held(store)) == {BEFORE}


def test_what_began_to_be_brought_there_and_never_ended_refuses_no_window(store: Store):
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(
            f"ALTER TABLE summary_window ADD CONSTRAINT ck_summary_window_until_{NOON + DAY:.0f}"
            f" CHECK (start < {NOON + DAY:.0f}) NOT VALID"
        ))  # fmt: skip
    step(store, NOON + 60.0)
    Sender(store).send(NOON + 2 * DAY)
    assert sum(held(store).values()) == 1


def test_a_read_of_some_time_looks_at_its_days_only(store: Store):
    step(store, NOON)
    sender, first = Sender(store), NOON + 10 * DAY
    for number in range(4):
        step(store, first + number * DAY)
        sender.send(first + number * DAY)
    window = SummaryWindow
    query = select(window).where(
        col(window.device) == "dev-1", col(window.start) >= first + 2 * DAY - 60.0,
        col(window.start) < first + 2 * DAY + 60.0,
    )  # fmt: skip
    with store.read() as session:
        written = query.compile(store.engine, compile_kwargs={"literal_binds": True})
        lines = session.connection().execute(text(f"EXPLAIN {written}")).scalars().all()
    assert [line for line in lines if day(first + 2 * DAY) in line]
    others = [day(first + number * DAY) for number in (0, 1, 3)] + [BEFORE, OTHER]
    assert [name for name in others if any(name in line for line in lines)] == []


def test_a_window_is_changed_in_its_own_day_only(store: Store):
    step(store, NOON)
    Sender(store).send(NOON)
    written: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *seen: written.append(seen[2]))
    rolled(store)
    (update,) = [item for item in written if item.startswith("UPDATE")]
    assert "summary_window.start = " in update
    with store.read() as session:
        assert session.exec(select(models.SummaryWindow.rolled)).all() == [True]


def test_what_an_older_hub_wrote_beyond_a_mark_is_known_in_partitions(store: Store):
    sender = Sender(store)
    sender.send(NOON, sequence=3)
    with store.write() as session:
        session.exec(delete(models.Ahead))  # as one that still ran wrote it
    step(store, NOON)
    sender.send(NOON + DAY, sequence=3)
    assert held(store) == {BEFORE: 1}


def test_a_large_table_is_left_to_the_operator(store: Store):
    with store.write() as session:
        session.connection().execute(text(
            "INSERT INTO summary_window (device, epoch, sequence, slot, model, version, manifest,"
            " start, seconds, n, errors, labels_right, labels_wrong, compared, disagreed,"
            " compared_failed, compared_labelled, compared_right, compared_champion_right, counts,"
            " received, payload, fault, folded, rolled)"
            " SELECT 'dev-1', '00', n, '', '', '', '', :noon - n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,"
            " '{}', 0, '', '', true, true FROM generate_series(1, :most) AS n"
        ), {"noon": NOON, "most": partitions.SMALL_ROWS + 1})  # fmt: skip
    assert step(store, NOON) == 0
    assert names(store) == []
    partitions.convert(store, NOON)
    assert names(store) == [BEFORE]


def test_an_operator_brings_a_hub_to_partitions(tmp_path: Path, postgres_server: Postgres, capsys):
    hub, url = str(tmp_path / "hub"), postgres_server.empty()
    for words in (
        ["init", "--data", hub, "--all-keys-here", "--database", url],
        ["partition", "--data", hub],
        ["partition", "--data", hub],
    ):
        main.app(words, standalone_mode=False)
    assert "an old day is dropped whole" in capsys.readouterr().out
    opened = Store(url)
    assert names(opened) == [BEFORE]
    opened.close()


def test_sqlite_and_an_older_hubs_database_are_refused_in_words(
    tmp_path: Path, postgres_server: Postgres
):
    for store, words in (
        (open_store(tmp_path, "dev-1"), "on SQLite nothing is to be done"),
        (Store(postgres_server.empty()), "start this one on it first"),
    ):
        with pytest.raises(ConfigError, match=words):
            partitions.convert(store, NOON)
        store.close()


def test_what_was_prepared_and_then_cut_off_the_engine_ends(store: Store):
    sender = Sender(store)
    sender.send(NOON)
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(2):  # cut off once more
            partitions.prepare(connection, NOON)
        connection.execute(text("RESET lock_timeout"))
    sender.send(NOON + 60.0)
    assert step(store, NOON + 3 * DAY) > 0
    (before,) = [part for part in named(store) if part.name == BEFORE]
    assert before.until == NOON - DAY / 2 + partitions.BOUND_DAYS * DAY
    assert held(store) == {BEFORE: 2}


def test_the_engine_keeps_the_days(tmp_path: Path, postgres_server: Postgres):
    plant = Plant(tmp_path, "dev-1", url=postgres_server.fresh(), telemetry=KEPT)
    try:
        sender = Sender(plant.store)
        plant.tick()
        assert set(held(plant.store)) == set()
        assert BEFORE in names(plant.store)
        sender.send(plant.now)
        for _ in range(KEPT.raw_days + partitions.BOUND_DAYS + 2):
            plant.tick(DAY)
            sender.send(plant.now)
        assert day(plant.now + partitions.AHEAD_DAYS * DAY) in names(plant.store)
        assert OTHER not in held(plant.store)
        rolled(plant.store)
        plant.tick(DAY)
        assert BEFORE not in names(plant.store)
        assert day(plant.now) in names(plant.store)
    finally:
        plant.close()


def test_windows_are_paged_through_from_day_to_day(store: Store):
    step(store, NOON)
    sender, days = Sender(store), range(5, 12)
    for number in days:
        step(store, NOON + number * DAY)
        sender.send(NOON + number * DAY)
    seen: list[int] = []
    before = None
    with store.read() as session:
        while found := reading.windows(
            session, EVERYTHING, "dev-1", model=None, before=before, limit=2
        ):
            seen += [item["sequence"] for item in found]
            before = found[-1]["id"]
    assert seen == list(range(len(days), 0, -1))


def test_what_was_prepared_long_ago_is_prepared_anew(store: Store):
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        partitions.prepare(connection, NOON - partitions.BOUND_DAYS * DAY)
        connection.execute(text("RESET lock_timeout"))
    partitions.convert(store, NOON)
    (before,) = named(store)
    assert before.until > NOON + DAY
    Sender(store).send(NOON + 2 * DAY)
    assert held(store) == {BEFORE: 1}
