"""Whoever may write to the database, and has no key, can't write the hub's audit log anew."""

import json

import pytest
from sqlmodel import delete, select
from typer.testing import CliRunner

from muster_client.app import app
from muster_hub.admin.main import app as hub_app
from muster_hub.api.hub import Hub
from muster_hub.audit import archive, log
from muster_hub.audit import archive as audit_archive
from muster_hub.errors import ConfigError
from muster_hub.storage.models import Audit
from muster_hub.storage.sealing import KEY_FILE, Sealing
from muster_hub.storage.store import Store
from muster_protocol.wire.audit import AuditBroken
from support.hub_kit import API, open_kit
from support.hub_store import open_store

DAY = 86_400.0
ROWS = 12


class Log:
    def __init__(self, directory, url=None):
        self.directory = directory
        self.store = open_store(directory, url=url)
        self.sealing = Sealing(directory)

    def write(self, count=ROWS, *, keyed=True):
        """Rows as the hub writes them, or as one of an earlier version did."""
        for number in range(count):
            with self.store.write() as session:
                log.append(
                    session, actor="token:ci", action="note.make", subject=f"note/{number}",
                    now=number * DAY,
                )  # fmt: skip
                if not keyed:
                    latest = session.exec(select(Audit).order_by(Audit.id.desc()).limit(1)).one()
                    latest.code = ""

    def begin(self):
        log.begin_keyed(self.store, self.sealing, 1000 * DAY)

    def check(self):
        with self.store.read() as session:
            return log.check(session, self.sealing)

    def rows(self):
        with self.store.read() as session:
            return session.exec(log.in_order()).all()

    def forge(self, change, *, code):
        """Change rows and seal the whole chain anew, as somebody at the database can."""
        with self.store.write() as session:
            rows = [row.model_dump() for row in session.exec(log.in_order())]
            session.exec(delete(Audit))
            session.flush()
            previous = log.GENESIS
            for row in change(rows):
                made = Audit(**row)
                made.previous = previous
                previous = made.hash = log.seal(made)
                made.code = code(made)
                session.add(made)
                session.flush()

    def archive(self, name, *, day):
        return audit_archive.archive(
            self.store, self.sealing, self.directory / name, before=day * DAY, now=1000 * DAY,
            by="hub", hub="https://hub.test",
        )  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    made = Log(tmp_path)
    yield made
    made.store.close()


def renamed(rows):
    for row in rows[3:]:
        row["actor"] = "token:somebody-else"
    return rows


FORGERIES = {
    "no codes": lambda row: "",
    "the codes that were there": lambda row: row.code,
    "codes of another key": lambda row: "ab" * 32,
}


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("change", [renamed, lambda rows: rows[5:], lambda rows: rows[:5]])
def test_a_chain_written_anew_in_the_database_is_found(kept, change, code):
    kept.write()
    kept.begin()
    assert kept.check().fault == ""
    kept.forge(change, code=code)
    if kept.check().rows != len(kept.rows()) or kept.check().fault:
        assert kept.check().fault
    else:
        assert [row.subject for row in kept.rows()] == [f"note/{number}" for number in range(5)], (
            "rows cut off the end are seen by whoever kept the latest hash"
        )


def test_a_log_of_an_earlier_hub_is_carried_over_and_keyed_from_then_on(tmp_path, database):
    kept = Log(tmp_path, database)
    kept.write(keyed=False)
    before = [row.model_dump() for row in kept.rows()]
    kept.begin()
    kept.write(3)
    assert [row.model_dump() for row in kept.rows()][:ROWS] == before
    found = kept.check()
    assert (found.fault, found.rows, found.keyed_from) == ("", ROWS + 4, ROWS + 1)
    assert [row.action for row in kept.rows()][ROWS] == "audit.key"
    kept.begin()
    assert kept.check().rows == ROWS + 4, "it begins once"
    kept.store.close()


def test_rows_from_before_the_log_was_keyed_can_not_be_changed_afterwards(kept):
    kept.write(keyed=False)
    kept.begin()
    kept.forge(renamed, code=lambda row: row.code)
    assert "was written without the hub's key" in kept.check().fault
    kept.forge(renamed, code=FORGERIES["no codes"])
    assert "was written anew" in kept.check().fault


def test_a_log_can_not_be_made_one_of_an_earlier_hub_again(kept):
    """The hub keys a log once: a forger can't have a chain of theirs taken over at its restart."""
    kept.write()
    kept.begin()
    kept.forge(renamed, code=FORGERIES["no codes"])
    kept.begin()
    kept.write(2)
    assert "are not those with which the log was first keyed" in kept.check().fault


def test_a_row_without_a_code_is_found_wherever_it_is(kept):
    kept.write()
    kept.begin()
    for place in (1, 6, ROWS):
        with kept.store.write() as session:
            row = session.get_one(Audit, place)
            code, row.code = row.code, ""
        assert kept.check().fault, place
        with kept.store.write() as session:
            session.get_one(Audit, place).code = code
    assert kept.check().fault == ""


def test_what_began_while_its_hub_died_begins_at_the_same_row(kept):
    kept.write(keyed=False)
    kept.begin()
    first = kept.directory / log.FIRST_FILE
    output = first.read_text()
    first.unlink()
    kept.begin()
    assert first.read_text() == output
    assert kept.check().fault == ""


def test_a_store_without_the_key_writes_nothing_into_the_log(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/hub.db")
    with pytest.raises(ConfigError, match="sealing key"), store.write() as session:
        log.append(session, actor="a", action="b", subject="c", now=1.0)
    store.close()


def test_archived_rows_keep_their_codes_and_those_of_an_earlier_hub_are_still_read(kept):
    kept.write(6, keyed=False)
    kept.begin()
    kept.archive("a.jsonl", day=4)
    kept.write(2)
    found = kept.check()
    assert (found.fault, found.archived) == ("", 4)
    path = kept.directory / "a.jsonl"
    codes = log.codes(kept.sealing)
    assert archive.join([path], found.archived, found.archived_latest, codes) == 0
    lines = path.read_bytes().splitlines(keepends=True)
    older = [lines[0].replace(b'"muster_audit":2', b'"muster_audit":1')]
    older += [line.replace(b',"code":""', b"") for line in lines[1:]]
    path.write_bytes(b"".join(older))
    assert archive.join([path], found.archived, found.archived_latest, codes) == 0


def test_a_code_of_another_key_in_an_archive_is_found_where_the_key_is(kept):
    kept.write()
    kept.begin()
    kept.archive("a.jsonl", day=4)
    path = kept.directory / "a.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    entry = json.loads(rows[2])
    path.write_bytes(path.read_bytes().replace(entry["code"].encode(), b"0" * 64))
    found = kept.check()
    with pytest.raises(AuditBroken, match="without the hub's key"):
        archive.join([path], found.archived, found.archived_latest, log.codes(kept.sealing))


def test_both_commands_say_from_which_row_on_the_log_is_keyed(tmp_path):
    kit = open_kit(tmp_path)
    try:
        data, headers = kit.hub.config.data, kit.as_("admin")

        def hub():
            return CliRunner().invoke(hub_app, ["audit-verify", "--data", str(data)])

        def muster():
            token = headers["Authorization"].removeprefix("Bearer ")
            flags = ["--hub", str(kit.http.base_url), "--token", token]
            return CliRunner().invoke(app, [*flags, "audit", "verify"])

        for answer in (hub(), muster()):
            assert answer.exit_code == 0, answer.output
            assert "keyed from row 1 on" in " ".join(answer.stdout.split())
        with kit.hub.store.write() as session:
            for row in session.exec(log.in_order()):
                row.code = ""
        assert isinstance(hub().exception, AuditBroken)
        assert "was written anew" in str(muster().exception)
        assert not kit.http.get(f"{API}/audit/verify", headers=headers).json()["ok"]
    finally:
        kit.close()


def test_a_hub_whose_key_was_lost_says_so(tmp_path):
    kit = open_kit(tmp_path)
    config = kit.hub.config
    kit.close()
    (config.keys / KEY_FILE).write_bytes(b"\1" * 32)
    hub = Hub.open(config, kit.clock)
    with hub.store.read() as session:
        assert "keys/sealing.key is another one" in log.check(session, hub.sealing).fault
    hub.store.close()
