"""Old rows of the audit log go to a file; every edit, gap and forgery is found, there and here."""

import json
import time

import msgspec
import pytest
from sqlmodel import delete, select
from typer.testing import CliRunner

from muster_client.app import app
from muster_hub.admin.main import app as hub_app
from muster_hub.audit import archive as audit_archive
from muster_hub.audit import log as audit
from muster_hub.audit.archive import KEPT_SECONDS_MIN, archive
from muster_hub.errors import ConfigError, Conflict, Invalid
from muster_hub.storage.governance import AuditAnchor
from muster_hub.storage.models import Audit
from muster_hub.storage.sealing import Sealing
from muster_protocol.wire import audit as audit_format
from muster_protocol.wire.audit import AuditBroken
from support.hub_kit import API, open_kit
from support.hub_store import open_store

DAY = 86_400.0
NOW = 1000 * DAY


class Log:
    """An audit log with a row for each of days 0 to 999."""

    def __init__(self, directory, url=None):
        self.directory = directory
        self.store = open_store(directory, url=url)
        self.sealing = Sealing(directory)
        self.now = NOW
        with self.store.write() as session:
            for day in range(0, 1000, 50):
                audit.append(
                    session, actor="token:ci", action="note.make", subject=f"note/{day}",
                    now=day * DAY, number=day / 7, text="ü",
                )  # fmt: skip

    def archive(self, name, *, day, **more):
        arguments = {"before": day * DAY, "now": self.now, "by": "hub", "hub": "https://hub.test"}
        return archive(self.store, self.sealing, self.directory / name, **(arguments | more))

    def check(self):
        with self.store.read() as session:
            return audit.check(session, self.sealing)

    def join(self, *names):
        found = self.check()
        files = [self.directory / name for name in names]
        codes = audit.codes(self.sealing)
        return audit_archive.join(files, found.archived, found.archived_latest, codes)

    def rows(self):
        with self.store.read() as session:
            return session.exec(audit.in_order()).all()

    def anchor(self):
        with self.store.read() as session:
            return audit.anchor(session)


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    yield made
    made.store.close()


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


# What stays and what goes


def test_old_rows_go_to_a_file_and_the_rest_holds_from_its_anchor(tmp_path, database):
    log = Log(tmp_path, database)
    whole = [row.model_dump() for row in log.rows()]
    made = log.archive("a.jsonl", day=401)
    assert (made.rows, log.check().fault) == (9, "")
    assert (log.check().rows, log.check().archived) == (12, 9)
    assert log.join("a.jsonl") == 0, "nothing is left unchecked"
    head, *rows, tail = map(json.loads, lines_of(tmp_path / "a.jsonl"))
    kept = [row.model_dump() for row in log.rows()]
    assert rows + kept[:-1] == whole, "no row is lost or changed"
    assert kept[-1]["action"] == "audit.archive"
    assert kept[-1]["detail"]["latest"] == made.latest == tail["latest"]
    assert head == {
        "muster_audit": 2, "hub": "https://hub.test", "rows_before": 0, "previous": "0" * 64,
    }  # fmt: skip
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o600
    log.archive("b.jsonl", day=601)
    with log.store.write() as session:
        audit.append(session, actor="a", action="b", subject="c", now=NOW)
    assert (log.check().fault, log.check().archived) == ("", 13)
    assert log.join("b.jsonl", "a.jsonl") == 0
    assert log.join("b.jsonl") == 9, "said to be unchecked"
    log.store.close()


def test_half_a_year_always_stays(log):
    with pytest.raises(Invalid, match="the last 184 days of the audit log stay"):
        log.archive("a.jsonl", day=1000 - KEPT_SECONDS_MIN / DAY + 0.01)
    assert not (log.directory / "a.jsonl").exists()
    log.archive("a.jsonl", day=1000 - KEPT_SECONDS_MIN / DAY)
    assert min(row.at for row in log.rows()) >= NOW - KEPT_SECONDS_MIN
    assert KEPT_SECONDS_MIN >= 184 * DAY


def test_a_young_row_keeps_what_was_written_after_it_whatever_clocks_said(log):
    with log.store.write() as session:
        audit.append(session, actor="a", action="clock.jumped", subject="x", now=10 * DAY)
    log.archive("a.jsonl", day=100)
    assert [row.at for row in log.rows()][:1] == [100 * DAY]
    assert any(row.action == "clock.jumped" for row in log.rows())


def test_nothing_old_enough_is_said_and_changes_nothing(log):
    log.archive("a.jsonl", day=100)
    with pytest.raises(Conflict, match="nothing to archive"):
        log.archive("b.jsonl", day=100)
    assert not (log.directory / "b.jsonl").exists()


def test_an_archive_overwrites_nothing_and_a_log_that_is_not_whole_is_not_archived(log):
    (log.directory / "a.jsonl").write_text("precious")
    with pytest.raises(ConfigError, match="never overwrites"):
        log.archive("a.jsonl", day=400)
    with pytest.raises(ConfigError, match="can't be written"):
        log.archive("missing/a.jsonl", day=400)
    with log.store.write() as session:
        session.get_one(Audit, 15).subject = "note/forged"
    with pytest.raises(AuditBroken, match="audit row 15"):
        log.archive("b.jsonl", day=400)
    assert (log.directory / "a.jsonl").read_text() == "precious"
    assert len(log.rows()) == 20
    assert sorted(path.name for path in log.directory.glob("*.jsonl*")) == ["a.jsonl"]


def test_of_two_that_archive_at_once_one_deletes_nothing(log):
    with log.store.read() as session:
        last = audit_archive._last_before(session, 300 * DAY)
        head = audit_format.Head(muster_audit=2, hub="", rows_before=0, previous=audit.GENESIS)
        slow = audit_archive._write(
            log.directory / "slow.jsonl",
            head,
            audit_archive._rows(session, last),
            audit.codes(log.sealing),
        )
    log.archive("fast.jsonl", day=100)
    with pytest.raises(Conflict, match="somebody else"), log.store.write() as session:
        audit_archive._prune(session, log.sealing, head, slow, last, now=NOW, by="hub")
    assert log.check().fault == ""
    assert log.join("fast.jsonl") == 0


# What is found in the database


@pytest.mark.parametrize("place", [10, 15, 20, 21])
@pytest.mark.parametrize(
    "field", ["at", "actor", "action", "subject", "detail", "previous", "hash"]
)
def test_an_edit_of_a_row_that_stayed_is_found(log, place, field):
    log.archive("a.jsonl", day=401)
    with log.store.write() as session:
        row = session.get_one(Audit, place)
        setattr(row, field, {"at": 1.5, "detail": {}}.get(field, "x"))
    assert log.check().fault


@pytest.mark.parametrize("gap", [[10], [15], [10, 11, 12]])
def test_a_gap_among_the_rows_that_stayed_is_found(log, gap):
    log.archive("a.jsonl", day=401)
    with log.store.write() as session:
        session.exec(delete(Audit).where(Audit.id.in_(gap)))
    assert "missing or out of order" in log.check().fault


def test_rows_deleted_without_an_archive_are_found(log):
    with log.store.write() as session:
        session.exec(delete(Audit).where(Audit.id < 10))
    assert "missing or out of order" in log.check().fault


def test_an_anchor_that_is_taken_away_is_found(log):
    log.archive("a.jsonl", day=201)
    log.archive("b.jsonl", day=401)
    with log.store.write() as session:
        session.exec(delete(AuditAnchor).where(AuditAnchor.rows == 9))
    assert log.check().fault
    with log.store.write() as session:
        session.exec(delete(AuditAnchor))
    assert "missing or out of order" in log.check().fault


def forge(log, tmp_path):
    """Cut rows off the beginning and write an anchor and a log entry that say it was archived."""
    with log.store.write() as session:
        rows = session.exec(audit.in_order()).all()
        cut = rows[4]
        for row in rows[:5]:
            session.delete(row)
        session.flush()
        (tmp_path / "other").mkdir()
        anchor = AuditAnchor(
            at=NOW, rows=5, previous=audit.GENESIS, latest=cut.hash, file_sha256="f" * 64, seal=b""
        )
        anchor.seal = audit.anchor_seal(anchor, Sealing(tmp_path / "other"))
        session.add(anchor)
        audit.append(
            session, actor="hub", action="audit.archive", subject="audit", now=NOW, rows=5,
            latest=cut.hash, file_sha256="f" * 64,
        )  # fmt: skip


def test_a_forged_anchor_is_found_even_with_a_log_entry_to_match(log, tmp_path):
    forge(log, tmp_path)
    assert "was forged" in log.check().fault
    with log.store.read() as session, pytest.raises(AuditBroken, match="forged"):
        audit.verify(session, log.sealing)


@pytest.mark.parametrize("field", ["at", "rows", "previous", "latest", "file_sha256", "seal"])
def test_a_changed_anchor_is_found(log, field):
    log.archive("a.jsonl", day=401)
    with log.store.write() as session:
        row = session.exec(select(AuditAnchor)).one()
        setattr(row, field, {"at": 1.0, "rows": 8, "seal": b"x" * 40}.get(field, "e" * 64))
    assert "anchor" in log.check().fault


def test_an_older_genuine_anchor_put_in_the_newer_ones_place_is_found(log):
    log.archive("a.jsonl", day=201)
    older = log.anchor().model_dump()
    log.archive("b.jsonl", day=401)
    with log.store.write() as session:
        session.exec(delete(AuditAnchor))
        session.add(AuditAnchor(**older))
    assert log.check().fault


# What is found in the file


def test_every_edit_of_an_archive_is_found(log):
    """Each byte of the file changed in turn: no change goes unseen that changes what is said."""
    log.archive("a.jsonl", day=151)
    path = log.directory / "a.jsonl"
    whole = path.read_bytes()
    said = [json.loads(line) for line in whole.splitlines()]
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            log.join("a.jsonl")
        except AuditBroken:
            continue
        changed = [json.loads(line) for line in path.read_bytes().splitlines()]
        for row in (*said, *changed):
            row.pop("id", None)
            row.pop("hub", None)
        assert changed == said, f"byte {place}"
    path.write_bytes(whole)
    assert log.join("a.jsonl") == 0


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (slice(0, 0), "line 1"),
        (slice(0, -1), "cut short"),
        (slice(0, 4), "cut short"),
        (slice(1, None), "line 1"),
    ],
)
def test_an_archive_cut_short_is_found(log, keep, says):
    log.archive("a.jsonl", day=401)
    path = log.directory / "a.jsonl"
    path.write_bytes(b"".join(lines_of(path)[keep]))
    with pytest.raises(AuditBroken, match=says):
        log.join("a.jsonl")


def test_rows_cut_out_of_an_archive_are_found_wherever_they_were(log):
    log.archive("a.jsonl", day=401)
    path = log.directory / "a.jsonl"
    lines = lines_of(path)
    for gone in range(1, len(lines) - 1):
        path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
        with pytest.raises(AuditBroken):
            log.join("a.jsonl")
    path.write_bytes(b"".join(lines) + lines[1])
    with pytest.raises(AuditBroken, match="after its end"):
        log.join("a.jsonl")


def test_an_archive_whose_end_was_sealed_anew_does_not_fit_the_hubs_anchor(log):
    log.archive("a.jsonl", day=401)
    path = log.directory / "a.jsonl"
    head, *rows, _ = [json.loads(line) for line in lines_of(path)]
    previous = head["previous"]
    rows[3]["subject"] = "note/forged"
    for row in rows:
        row["previous"] = previous
        previous = row["hash"] = audit_format.seal(audit_format.Entry(**row))
    tail = {"rows": len(rows), "latest": previous}
    path.write_bytes(b"\n".join(map(msgspec.json.encode, (head, *rows, tail))) + b"\n")
    assert audit_archive.read(path).tail.rows == 9, "it holds in itself"
    found = log.check()
    with pytest.raises(AuditBroken, match="does not end where the hub's log begins"):
        audit_archive.join([path], found.archived, found.archived_latest)
    with pytest.raises(AuditBroken, match="without the hub's key"):
        log.join("a.jsonl")


def test_an_archive_that_is_missing_between_or_at_the_end_is_found(log):
    for name, day in (("a", 201), ("b", 401), ("c", 601)):
        log.archive(f"{name}.jsonl", day=day)
    assert log.join("c.jsonl", "a.jsonl", "b.jsonl") == 0
    with pytest.raises(AuditBroken, match="one is missing"):
        log.join("a.jsonl", "c.jsonl")
    with pytest.raises(AuditBroken, match="does not end where"):
        log.join("a.jsonl", "b.jsonl")
    with pytest.raises(AuditBroken, match="No such file"):
        log.join("d.jsonl")


# The commands


def test_the_hubs_command_archives_and_both_commands_verify_the_whole(tmp_path):
    kit = open_kit(tmp_path)
    try:
        kit.clock.now = time.time()
        (kit.hub.config.keys / audit.FIRST_FILE).unlink()
        with kit.hub.store.write() as session:
            session.exec(delete(Audit))
            for day in (900, 800, 10):
                audit.append(
                    session, actor="hub", action="note", subject="x", now=kit.clock() - day * DAY
                )
        day = time.strftime("%Y-%m-%d", time.gmtime(kit.clock() - 500 * DAY))
        out, data = tmp_path / "old.jsonl", kit.hub.config.data

        def hub(*arguments):
            return CliRunner().invoke(hub_app, [*map(str, arguments), "--data", str(data)])

        late = hub("audit-archive", "--yes", "--before", "2999-01-01", "--out", out)
        assert isinstance(late.exception, Invalid)
        made = hub("audit-archive", "--yes", "--before", day, "--out", out)
        assert made.exit_code == 0, made.output
        assert "2 rows" in made.stdout
        assert "2 archived rows were not looked at" in hub("audit-verify").stdout
        assert "2 rows, unbroken, keyed from row 3 on, after 2 in archives, unbroken." in hub(
            "audit-verify", "--archive", out
        ).stdout.replace("\n", " ")
        headers = kit.as_("admin")
        state = kit.http.get(f"{API}/audit/verify", headers=headers).json()
        assert (state["ok"], state["rows"], state["archived"]) == (True, 2, 2)

        def muster(*arguments):
            token = headers["Authorization"].removeprefix("Bearer ")
            flags = ["--hub", str(kit.http.base_url), "--token", token]
            return CliRunner().invoke(app, [*flags, "audit", "verify", *map(str, arguments)])

        assert "after 2 in archives, unbroken" in muster("--archive", out).stdout
        assert json.loads(muster("--json").stdout)["unchecked"] == 2
        out.write_bytes(out.read_bytes().replace(b'"note"', b'"nope"', 1))
        assert isinstance(muster("--archive", out).exception, AuditBroken)
    finally:
        kit.close()
