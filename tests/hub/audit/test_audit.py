"""The audit log: every act is in it, and no edit or gap goes unseen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import delete, select

from muster_hub.audit import log
from muster_hub.storage.models import Audit
from support.hub_kit import API, open_kit
from support.hub_store import open_store


@pytest.fixture
def store(tmp_path):
    made = open_store(tmp_path)
    with made.write() as session:
        for number in range(10):
            log.append(
                session, actor="token:ci", action="note.make", subject=f"note/{number}",
                now=1.5 * number, number=number,
            )  # fmt: skip
    yield made
    made.close()


def chain(store):
    with store.read() as session:
        return log.inspect(session.exec(log.in_order()))


def test_an_untouched_log_is_whole(store):
    found = chain(store)
    assert (found.rows, found.fault) == (10, "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at", 99.0),
        ("actor", "token:somebody-else"),
        ("action", "note.read"),
        ("subject", "note/7"),
        ("detail", {"number": 8}),
    ],
)
@pytest.mark.parametrize("place", [1, 5, 10])
def test_an_edited_row_is_found(store, field, value, place):
    with store.write() as session:
        row = session.get_one(Audit, place)
        assert getattr(row, field) != value
        setattr(row, field, value)
    found = chain(store)
    assert found.rows == place - 1
    assert f"audit row {place}" in found.fault
    assert "was changed" in found.fault


@pytest.mark.parametrize("gap", [[1], [5], [2, 3, 4], [1, 2, 9]])
def test_missing_rows_are_found(store, gap):
    with store.write() as session:
        session.exec(delete(Audit).where(Audit.id.in_(gap)))
    found = chain(store)
    assert found.rows == gap[0] - 1
    assert "missing or out of order" in found.fault


def test_an_edit_sealed_anew_is_found_at_the_next_row(store):
    with store.write() as session:
        row = session.get_one(Audit, 4)
        row.subject = "note/forged"
        row.hash = log.seal(row)
    found = chain(store)
    assert (found.rows, "audit row 5" in found.fault) == (4, True)


def test_rows_cut_off_the_end_are_found_by_whoever_kept_the_latest_hash(store):
    kept = chain(store).latest
    with store.write() as session:
        session.exec(delete(Audit).where(Audit.id > 7))
    found = chain(store)
    assert (found.rows, found.fault) == (7, "")
    assert found.latest != kept


@given(data=st.data())
def test_any_order_but_the_written_one_is_refused(data):
    rows, previous = [], log.GENESIS
    for number in range(6):
        row = Audit(
            id=number + 1, at=number, actor="a", action="b", subject=str(number),
            detail={}, previous=previous, hash="",
        )  # fmt: skip
        previous = row.hash = log.seal(row)
        rows.append(row)
    mixed = data.draw(st.lists(st.sampled_from(rows), max_size=8))
    whole = mixed == rows[: len(mixed)]
    assert (log.inspect(mixed).fault == "") == whole


def test_every_change_through_the_api_leaves_a_row(tmp_path):
    kit = open_kit(tmp_path)
    try:
        kit.enrol(kit.enrol_token(labels={"site": "berlin"}))
        admin = kit.as_("admin")

        def ask(method, path, body=None):
            answer = kit.http.request(method, f"{API}{path}", json=body, headers=admin)
            assert answer.is_success, answer.text
            return answer

        before = len(rows_of(kit))
        token = ask("POST", "/tokens", {"name": "ci", "role": "releaser"}).json()
        acts = [
            ("POST", f"/tokens/{token['id']}/revoke", None),
            ("PUT", "/users/ada@example.com", {"role": "operator", "selector": "site=berlin"}),
            ("DELETE", "/users/ada@example.com", None),
            ("PATCH", "/devices/cam-1", {"labels": {"site": "oslo"}}),
            ("POST", "/devices/cam-1/revoke", None),
        ]
        for method, path, body in acts:
            ask(method, path, body)
        rows = rows_of(kit)[before:]
        assert [row.action for row in rows] == [
            "api-token.make", "api-token.revoke", "user.put", "user.delete", "device.relabel",
            "device.revoke",
        ]  # fmt: skip
        assert {row.actor for row in rows} == {"token:a-admin"}
        state = ask("GET", "/audit/verify").json()
        assert state["ok"]
        with kit.hub.store.write() as session:
            session.get_one(Audit, 2).actor = "token:nobody"
        assert "audit row 2" in ask("GET", "/audit/verify").json()["fault"]
    finally:
        kit.close()


def rows_of(kit):
    with kit.hub.store.read() as session:
        return session.exec(select(Audit).order_by(Audit.id)).all()
