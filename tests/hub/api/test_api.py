"""The HTTP API: who may do what, how it fails, how it pages, and what its document promises."""

import json
import re
import threading
from contextlib import ExitStack

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select

from muster_hub.api import pages
from muster_hub.audit import log
from muster_hub.errors import Invalid
from muster_hub.signing import keys, roles
from muster_hub.storage.models import Alert, ApiToken, Audit, Device, EventRow
from muster_protocol.wire.limits import MIB
from support import models as fixtures
from support.hub_kit import API, is_problem, open_kit

ROUTES_OPEN_TO_ALL = {
    ("get", f"{API}/health"),
    ("get", f"{API}/ca"),
    ("get", f"{API}/root"),
    ("get", f"{API}/login"),
    ("post", f"{API}/enroll"),
    ("post", f"{API}/renew"),
}


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def get(kit, path, role="viewer", **parameters):
    return kit.http.get(f"{API}{path}", params=parameters, headers=kit.as_(role))


def post(kit, path, body=None, role="operator"):
    return kit.http.post(f"{API}{path}", json=body, headers=kit.as_(role))


def push(kit, tmp_path, role="releaser", model=None, **fields):
    folder = tmp_path / f"bundle-{len(list(tmp_path.glob('bundle-*')))}"
    folder.mkdir()
    parsed, _ = fixtures.write_bundle(folder, **fields)
    with ExitStack() as stack:
        form = [("manifest", ("manifest.json", (folder / "manifest.json").read_bytes()))]
        form += [
            ("files", (entry.path, stack.enter_context((folder / entry.path).open("rb"))))
            for entry in parsed.files
        ]
        return kit.http.post(
            f"{API}/models/{model or parsed.model}/versions", files=form, headers=kit.as_(role)
        )


def released(kit, tmp_path, **fields):
    """Push a version and have it checked by the device's own worker."""
    answer = push(kit, tmp_path, **fields)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    kit.hub.releases.advance(body["model"], body["version"])
    return get(kit, f"/models/{body['model']}/versions/{body['version']}").json()


# Who may do what


def test_health_needs_no_token_and_shows_every_part(kit):
    kit.hub.add_health("broker", lambda: {"ok": False, "detail": "died"})
    body = kit.http.get(f"{API}/health").json()
    assert body["status"] == "degraded"
    assert body["parts"]["broker"] == {"ok": False, "detail": "died"}
    assert {"disk", "release-check"} <= set(body["parts"])
    assert {part["ok"] for name, part in body["parts"].items() if name != "broker"} == {True}


def test_every_route_but_the_first_contact_asks_for_a_token(kit):
    document = kit.http.get(f"{API}/openapi.json").json()
    asked = 0
    for path, methods in document["paths"].items():
        for method in methods:
            if (method, path) in ROUTES_OPEN_TO_ALL:
                continue
            action = "pause" if "rollouts" in path else "resolve"
            filled = re.sub(r"\{\w+\}", "1", path.replace("{action}", action))
            answer = kit.http.request(method, filled)
            is_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
            asked += 1
    assert asked >= 20


def test_a_wrong_or_expired_token_is_refused(kit):
    wrong = kit.http.get(f"{API}/devices", headers={"Authorization": "Bearer guess"})
    assert "isn't known" in is_problem(wrong, 401, "unauthenticated")
    headers = kit.as_("viewer")
    with kit.hub.store.write() as session:
        for row in session.exec(select(ApiToken)).all():
            row.expires = kit.clock() + 10
    assert kit.http.get(f"{API}/devices", headers=headers).status_code == 200
    kit.clock.now += 10
    late = kit.http.get(f"{API}/devices", headers=headers)
    assert "expired" in is_problem(late, 401, "unauthenticated")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("get", "/devices", {"viewer", "operator", "releaser", "admin"}),
        ("post", "/enroll-tokens", {"operator", "admin"}),
        ("post", "/rollouts", {"operator", "admin"}),
        ("post", "/devices/cam-1/revoke", {"operator", "admin"}),
        ("patch", "/devices/cam-1", {"operator", "admin"}),
        ("post", "/alerts/1/resolve", {"operator", "admin"}),
        ("post", "/models/dense/versions", {"releaser", "admin"}),
        ("get", "/signing-request", {"releaser", "admin"}),
        ("post", "/signatures", {"releaser", "admin"}),
        ("get", "/audit", {"admin"}),
    ],
)
def test_a_role_may_do_what_it_is_for_and_no_more(kit, method, path, allowed):
    for role in ("viewer", "operator", "releaser", "admin"):
        answer = kit.http.request(method, f"{API}{path}", headers=kit.as_(role))
        assert (answer.status_code != 403) == (role in allowed), role


# How it fails


def test_unknown_things_are_not_found_by_name(kit):
    assert "'cam-9'" in is_problem(get(kit, "/devices/cam-9"), 404, "not_found")
    for path in ("/devices/x/drift", "/devices/x/counts", "/devices/x/windows", "/models/x"):
        is_problem(get(kit, path), 404, "not_found")
    is_problem(get(kit, "/models/x/versions/1"), 404, "not_found")
    is_problem(get(kit, "/rollouts/7"), 404, "not_found")
    is_problem(post(kit, "/rollouts/7/pause"), 404, "not_found")
    is_problem(post(kit, "/alerts/7/resolve"), 404, "not_found")
    is_problem(post(kit, "/devices/x/revoke"), 404, "not_found")
    is_problem(get(kit, "/nowhere"), 404, "not_found")


def test_a_field_at_fault_is_named(kit):
    answer = post(kit, "/enroll-tokens", {"uses": "many"})
    is_problem(answer, 422, "invalid")
    assert answer.json()["errors"][0]["field"] == "body.uses"


def test_a_selector_that_cannot_be_read_is_explained(kit):
    assert "position" in is_problem(get(kit, "/devices", selector="site=("), 422, "invalid")


def test_a_body_over_its_limit_is_refused_before_it_is_read(kit):
    huge = {"token": "x" * MIB, "csr_pem": ""}
    detail = is_problem(kit.http.post(f"{API}/enroll", json=huge), 413, "too_large")
    assert "65536 bytes" in detail


def test_a_body_without_a_length_is_cut_off_at_the_limit(kit):
    def endless():
        for _ in range(64):
            yield b" " * 4096

    answer = kit.http.post(f"{API}/enroll", content=endless())
    is_problem(answer, 413, "too_large")


def test_what_nobody_foresaw_is_a_problem_too_and_says_nothing_inner(kit):
    def broken():
        raise RuntimeError("a secret path")

    kit.hub.add_health("broken", broken)
    detail = is_problem(kit.http.get(f"{API}/health"), 500, "failed")
    assert "secret" not in detail


# Devices


def add_devices(kit, *names, **fields):
    with kit.hub.store.write() as session:
        for name in names:
            session.add(Device(id=name, created=1, **fields))


def test_pages_neither_skip_nor_repeat(kit):
    names = [f"cam-{number:02}" for number in range(25)]
    add_devices(kit, *names)
    seen, cursor = [], None
    while True:
        page = get(kit, "/devices", limit=10, cursor=cursor).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == names


def test_devices_are_selected_by_label(kit):
    add_devices(kit, "cam-1", labels={"site": "berlin"})
    add_devices(kit, "cam-2", labels={"site": "oslo"})
    page = get(kit, "/devices", selector="site=oslo").json()
    assert [item["id"] for item in page["items"]] == ["cam-2"]


def test_labels_are_replaced_and_audited(kit):
    add_devices(kit, "cam-1", labels={"site": "berlin"})
    answer = kit.http.patch(
        f"{API}/devices/cam-1", json={"labels": {"line": "2"}}, headers=kit.as_("operator")
    )
    assert answer.json()["labels"] == {"line": "2"}
    assert kit.wakes
    row = get(kit, "/audit", role="admin").json()["items"][-1]
    assert (row["actor"], row["action"]) == ("token:a-operator", "device.relabel")
    assert row["detail"] == {"before": {"site": "berlin"}, "after": {"line": "2"}}


# Registry and rollouts


@pytest.mark.system
def test_a_pushed_version_is_checked_signed_and_shown(kit, tmp_path):
    view = released(kit, tmp_path)
    assert view["status"] == "published"
    assert view["created_by"] == "token:a-releaser"
    assert [build["ok"] for build in view["check"]["builds"]] == [True, True]
    assert view["manifest"]["model"] == "dense"
    (model,) = get(kit, "/models").json()["items"]
    assert model["versions"][0]["version"] == "1"
    assert get(kit, "/models/dense").json() == model


@pytest.mark.system
def test_a_version_that_lies_is_shown_rejected_with_its_reason(kit, tmp_path):
    view = released(kit, tmp_path, files={"onnx": b"holiday photo"}, runtimes=("onnx",))
    assert view["status"] == "rejected"
    assert "load_failed" in view["check"]["reason"]
    answer = post(kit, "/rollouts", {"model": "dense", "version": "1", "canary": 1, "selector": ""})
    assert "rejected" in is_problem(answer, 409, "conflict")


def test_an_upload_with_a_wrong_name_or_manifest_is_refused(kit, tmp_path):
    answer = push(kit, tmp_path, model="other")
    assert "'dense', not 'other'" in is_problem(answer, 422, "invalid")
    form = [("manifest", ("manifest.json", b"{}")), ("files", ("a.onnx", b""))]
    answer = kit.http.post(f"{API}/models/dense/versions", files=form, headers=kit.as_("releaser"))
    assert "manifest" in is_problem(answer, 422, "invalid")


@pytest.mark.system
def test_a_rollout_is_started_held_and_ended(kit, tmp_path):
    released(kit, tmp_path, runtimes=("onnx",))
    add_devices(kit, "cam-1", "cam-2", labels={"site": "berlin"})
    ask = {"model": "dense", "version": "1", "slot": "vision", "selector": "site=berlin"}
    answer = post(kit, "/rollouts", ask | {"canary": 1, "min_soak_seconds": 0})
    assert answer.status_code == 201, answer.text
    number = answer.json()["id"]
    assert get(kit, f"/rollouts/{number}").json()["state"] == "running"
    assert post(kit, f"/rollouts/{number}/pause").json()["state"] == "paused"
    is_problem(post(kit, f"/rollouts/{number}/pause"), 409, "conflict")
    assert post(kit, f"/rollouts/{number}/resume").json()["state"] == "running"
    assert post(kit, f"/rollouts/{number}/abort").json()["state"] == "aborted"
    assert [item["id"] for item in get(kit, "/rollouts").json()["items"]] == [number]
    actions = [row["action"] for row in get(kit, "/audit", role="admin").json()["items"]]
    assert actions[-4:] == ["rollout.start", "rollout.pause", "rollout.resume", "rollout.abort"]


def test_a_rollout_of_nothing_is_refused(kit):
    answer = post(kit, "/rollouts", {"model": "dense", "version": "1"})
    is_problem(answer, 404, "not_found")
    answer = post(kit, "/rollouts", {"model": "dense", "version": "1", "canary": -1})
    is_problem(answer, 422, "invalid")


# Alerts, events, audit, chunks


def test_an_alert_is_acknowledged_then_resolved(kit):
    with kit.hub.store.write() as session:
        alert = Alert(
            key="drift:cam-1", kind="drift", severity="warning", state="open",
            opened=1, updated=1, title="cam-1 drifts",
        )  # fmt: skip
        session.add(alert)
    (item,) = get(kit, "/alerts", state="open").json()["items"]
    assert post(kit, f"/alerts/{item['id']}/acknowledge").json()["state"] == "acknowledged"
    assert post(kit, f"/alerts/{item['id']}/resolve").json()["state"] == "resolved"
    assert get(kit, "/alerts", state="open").json()["items"] == []
    is_problem(get(kit, "/alerts", state="gone"), 422, "invalid")


def add_event(kit, kind):
    with kit.hub.store.write() as session:
        session.add(EventRow(kind=kind, received=kit.clock(), detail="d"))


def test_events_are_paged_from_where_one_left(kit):
    for number in range(5):
        add_event(kit, f"note-{number}")
    page = get(kit, "/events", limit=3).json()
    assert [item["kind"] for item in page["items"]] == ["note-0", "note-1", "note-2"]
    rest = get(kit, "/events", cursor=page["next"]).json()
    assert [item["kind"] for item in rest["items"]] == ["note-3", "note-4"]
    assert get(kit, "/events", after=rest["items"][-1]["id"]).json()["items"] == []


def follow(kit, count, headers):
    """The first ``count`` events of a live stream as (id, kind); ready once it is open."""
    opened, seen = threading.Event(), []

    def run():
        with kit.http.stream("GET", f"{API}/events/stream", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                opened.set()
                if line.startswith("data: "):
                    item = json.loads(line.removeprefix("data: "))
                    seen.append((item["id"], item["kind"]))
                if len(seen) == count:
                    return

    thread = threading.Thread(target=run)
    thread.start()
    assert opened.wait(60)
    return thread, seen


def test_events_are_told_live_and_resumed_after_the_last_one_seen(kit):
    add_event(kit, "long-ago")
    headers = kit.as_("viewer")
    thread, seen = follow(kit, 2, headers)
    add_event(kit, "first")
    add_event(kit, "second")
    thread.join(60)
    assert [kind for _, kind in seen] == ["first", "second"]
    thread, again = follow(kit, 1, headers | {"Last-Event-ID": str(seen[0][0])})
    thread.join(60)
    assert again == seen[1:]


def test_a_stopping_hub_ends_event_streams(kit):
    with kit.http.stream("GET", f"{API}/events/stream", headers=kit.as_("viewer")) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith(":")
        kit.hub.stopping.set()
        assert list(lines) == [""]


def test_the_audit_log_is_read_by_page_and_unbroken(kit):
    for _ in range(3):
        kit.enrol_token()
    page = get(kit, "/audit", role="admin", limit=2).json()
    rest = get(kit, "/audit", role="admin", cursor=page["next"]).json()
    rows = [Audit(**row) for row in page["items"] + rest["items"]]
    found = log.inspect(rows)
    assert (found.rows, found.fault) == (len(rows), "") == (4, "")


@settings(max_examples=200)
@given(text=st.text(max_size=30))
def test_a_cursor_is_a_number_or_refused(text):
    try:
        assert pages.number(text) >= 0
    except Invalid:
        assert not (text.isascii() and text.isdecimal() and len(text) <= 18)


# The document


def test_the_openapi_document_shows_examples_and_problems(kit):
    document = kit.http.get(f"{API}/openapi.json").json()
    assert document["info"]["title"] == "Muster hub"
    ask = document["components"]["schemas"]["RolloutAsk"]["properties"]
    assert ask["selector"]["examples"]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            if (method, path) in ROUTES_OPEN_TO_ALL:
                continue
            problems = {code for code in route["responses"] if code.startswith("4")}
            assert problems, (method, path)
            for code in problems:
                assert "application/problem+json" in route["responses"][code]["content"]


def test_signatures_made_elsewhere_are_asked_for_and_taken(tmp_path):
    vault = {role: keys.generate(tmp_path / f"{role}.pem") for role in keys.OFFLINE}
    kit = open_kit(tmp_path, offline_public=vault)
    try:
        is_problem(kit.http.get(f"{API}/root"), 409, "catalogue")
        headers = kit.as_("releaser")
        waiting = kit.http.get(f"{API}/signing-request", headers=headers).json()["roles"]
        assert list(waiting) == ["root", "targets"]
        for role, draft in waiting.items():
            signer = keys.load_signer(tmp_path / f"{roles.key_role(role)}.pem")
            signed = roles.add_signature(draft.encode(), signer).decode()
            answer = kit.http.post(f"{API}/signatures", json={"metadata": signed}, headers=headers)
            assert answer.status_code == 200, answer.text
        assert answer.json()["roles"] == {}
        assert msgspec.json.decode(kit.http.get(f"{API}/root").content)["signed"]["version"] == 1
        again = kit.http.post(f"{API}/signatures", json={"metadata": signed}, headers=headers)
        assert "nothing that waits" in is_problem(again, 409, "catalogue")
    finally:
        kit.close()
