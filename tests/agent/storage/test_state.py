"""The database: atomic, and never a reason for a device to stand still."""

import os
import shutil
import sqlite3

import pytest

from muster_agent.storage.rows import Adopted, JournalRow, Pointer
from muster_agent.storage.state import FILE, open_state, read_state
from muster_protocol.wire.directive import Goal

GOAL = Goal("digits", "1", "ab" * 32, 100)
NEXT = Goal("digits", "2", "cd" * 32, 100)


def filled(directory):
    state = open_state(directory, {})
    with state.transaction():
        state.put_pointer("main", Pointer(GOAL, b"since"))
        state.put_journal("main", JournalRow("committed", GOAL, 3))
        state.put_adopted(Adopted(1, 3, b"envelope"))
    state.checkpoint()
    return state


def test_what_was_written_is_read_back_after_a_restart(tmp_path):
    filled(tmp_path).close()
    state = open_state(tmp_path, {})
    assert state.durable
    assert state.pointers() == {"main": Pointer(GOAL, b"since")}
    assert state.journal() == {"main": JournalRow("committed", GOAL, 3)}
    assert state.adopted() == Adopted(1, 3, b"envelope")
    state.close()


def test_every_commit_is_synced(tmp_path):
    state = open_state(tmp_path, {})
    assert state.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert state.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    state.close()


def test_pointer_and_journal_commit_together_or_not_at_all(tmp_path):
    state = filled(tmp_path)

    def interrupted():
        with state.transaction():
            state.put_pointer("main", Pointer(NEXT))
            state.put_journal("main", JournalRow("committed", NEXT))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert state.pointers()["main"].goal == GOAL
    assert state.journal()["main"].goal == GOAL
    state.close()


def test_counters_go_up_by_one_and_survive(tmp_path):
    state = open_state(tmp_path, {})
    assert [state.count("boots"), state.count("boots")] == [1, 2]
    state.close()
    state = open_state(tmp_path, {})
    assert state.count("boots") == 3
    state.close()


def test_a_damaged_database_is_set_aside_and_the_links_say_what_runs(tmp_path):
    filled(tmp_path).close()
    data = bytearray((tmp_path / FILE).read_bytes())
    data[: len(data) // 2] = os.urandom(len(data) // 2)
    (tmp_path / FILE).write_bytes(data)
    state = open_state(tmp_path, {"main": GOAL})
    assert state.durable
    assert state.pointers()["main"].goal == GOAL
    assert state.journal()["main"].state == "committed"
    assert (tmp_path / "state.db.damaged").read_bytes() == bytes(data)
    state.close()
    assert open_state(tmp_path, {}).pointers()["main"].goal == GOAL


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_truncated_database_never_stops_the_boot(tmp_path, kept):
    filled(tmp_path).close()
    with (tmp_path / FILE).open("r+b") as file:
        file.truncate(kept)
    state = open_state(tmp_path, {"main": GOAL})
    assert state.durable
    assert kept == 0 or state.pointers()["main"].goal == GOAL
    state.close()


def test_a_database_that_only_reads_boots_the_committed_pointer(tmp_path):
    filled(tmp_path).close()
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    shutil.copy(tmp_path / FILE, mounted / FILE)
    # A log that can't be opened is what a read-only file system looks like to SQLite.
    (mounted / f"{FILE}-wal").mkdir()
    state = open_state(mounted, {})
    assert not state.durable
    assert str(mounted / FILE) in state.trouble
    assert state.pointers()["main"].goal == GOAL
    state.put_journal("main", JournalRow("failed", NEXT))  # In memory only.
    state.close()


def test_a_database_that_can_neither_be_read_nor_replaced_boots_from_the_links(tmp_path):
    (tmp_path / FILE).mkdir()
    state = open_state(tmp_path, {"main": GOAL})
    assert not state.durable
    assert state.pointers()["main"].goal == GOAL
    state.close()


def test_status_reads_beside_a_running_agent_and_writes_nothing(tmp_path):
    state = filled(tmp_path)
    beside = read_state(tmp_path)
    assert beside.pointers()["main"].goal == GOAL
    with pytest.raises(sqlite3.OperationalError):
        beside.put_journal("main", JournalRow("idle"))
    beside.close()
    state.close()


def test_of_a_slots_monitors_the_two_saved_last_are_kept(tmp_path):
    state = open_state(tmp_path, {})
    for slot, manifest in (("a", "m1"), ("b", "m1"), ("a", "m2"), ("a", "m1"), ("a", "m3")):
        state.put_monitor(slot, manifest, 1, manifest.encode())
    assert state.monitor("a", "m2") is None
    assert state.monitor("a", "m1") == (1, b"m1")
    assert state.monitor("a", "m3") == (1, b"m3")
    assert state.monitor("b", "m1") == (1, b"m1")
    state.close()
