"""Roles limited to models and devices, tokens that end, answers given once, careful changes."""

import pytest
from sqlmodel import select

from muster_hub.access import people
from muster_hub.access.governance import make_token
from muster_hub.access.scope import Scope
from muster_hub.settings.config import Governance, Http
from muster_hub.storage.governance import KeptAnswer
from muster_hub.storage.models import ApiToken, Device, Model, Rollout, Version
from muster_protocol.wire import selectors
from muster_protocol.wire.chunks import sha256_hex
from support.hub_kit import API, is_problem, open_kit


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    with made.hub.store.write() as session:
        for name, site in (("cam-1", "berlin"), ("cam-2", "oslo")):
            session.add(Device(id=name, labels={"site": site}, created=1))
        add_version(session, "digits", "1")
        add_version(session, "digits", "2")
        add_version(session, "pump", "1")
    yield made
    made.close()


def add_version(session, model, version, status="published", by="test"):
    if session.get(Model, model) is None:
        session.add(Model(name=model, created=1))
        session.flush()
    session.add(
        Version(
            model=model, version=version, manifest_sha256=f"{model}-{version}", manifest=b"{}",
            status=status, size_bytes=1000, created=1, created_by=by,
        )
    )  # fmt: skip


def token(kit, **ask):
    body = {"name": "limited", "role": "operator"} | ask
    answer = kit.http.post(f"{API}/tokens", json=body, headers=kit.as_("admin"))
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}, answer.json()


def person(kit, name, role="operator"):
    """Headers of somebody whose token the hub itself made."""
    with kit.hub.store.write() as session:
        return {"Authorization": f"Bearer {make_token(session, name, role, kit.clock())}"}


def ask(kit, method, path, headers, body=None, **more):
    return kit.http.request(method, f"{API}{path}", json=body, headers=headers | more)


# Tokens


def test_a_token_is_shown_once_and_kept_as_a_hash(kit):
    headers, made = token(kit, models=["digits"], selector="site=berlin")
    assert ask(kit, "GET", "/whoami", headers).json() == {
        "name": "limited", "kind": "token", "role": "operator", "models": ["digits"],
        "selector": "site=berlin", "owner": "a-admin",
    }  # fmt: skip
    with kit.hub.store.read() as session:
        stored = [str(row.model_dump()) for row in session.exec(select(ApiToken))]
    assert not any(made["token"] in row for row in stored)
    listed = ask(kit, "GET", "/tokens", kit.as_("admin")).json()["items"]
    assert made["id"] in {row["id"] for row in listed}
    assert not any("token" in row or "hash" in row for row in listed)


def test_a_revoked_token_and_one_past_its_end_are_refused(kit):
    headers, made = token(kit, expires_seconds=60)
    assert ask(kit, "GET", "/devices", headers).status_code == 200
    kit.clock.now += 60
    assert "expired" in is_problem(ask(kit, "GET", "/devices", headers), 401, "unauthenticated")
    headers, made = token(kit)
    ask(kit, "POST", f"/tokens/{made['id']}/revoke", kit.as_("admin"))
    assert "revoked" in is_problem(ask(kit, "GET", "/devices", headers), 401, "unauthenticated")


def test_an_admin_is_never_limited_and_only_an_admin_makes_tokens(kit):
    body = {"name": "x", "role": "admin", "selector": "site=berlin"}
    is_problem(ask(kit, "POST", "/tokens", kit.as_("admin"), body), 422, "invalid")
    for role in ("viewer", "operator", "releaser"):
        answer = ask(kit, "POST", "/tokens", kit.as_(role), {"name": "x", "role": "viewer"})
        is_problem(answer, 403, "forbidden")


# Scopes


def test_devices_outside_the_scope_are_neither_listed_nor_touched(kit):
    headers, _ = token(kit, selector="site=berlin")
    listed = ask(kit, "GET", "/devices", headers).json()["items"]
    assert [item["id"] for item in listed] == ["cam-1"]
    for method, path, body in (
        ("GET", "/devices/cam-2", None),
        ("GET", "/devices/cam-2/counts", None),
        ("PATCH", "/devices/cam-2", {"labels": {"site": "berlin"}}),
        ("PATCH", "/devices/cam-1", {"labels": {"site": "oslo"}}),
        ("POST", "/devices/cam-2/revoke", None),
        ("POST", "/enroll-tokens", {"labels": {"site": "oslo"}}),
        ("POST", "/enroll-tokens", {}),
    ):
        is_problem(ask(kit, method, path, headers, body), 403, "refused")
    assert ask(kit, "POST", "/enroll-tokens", headers, {"labels": {"site": "berlin"}}).is_success


def test_a_limited_operator_s_rollout_reaches_only_its_own_devices(kit):
    headers, _ = token(kit, selector="site=berlin", models=["digits"])
    answer = ask(kit, "POST", "/rollouts", headers, {"model": "digits", "version": "1"})
    assert answer.json()["selector"] == "site=berlin"
    answer = ask(kit, "POST", "/rollouts", headers, {"model": "pump", "version": "1"})
    is_problem(answer, 403, "refused")
    theirs = ask(
        kit, "POST", "/rollouts", kit.as_("operator"),
        {"model": "digits", "version": "1", "slot": "other"},
    ).json()["id"]  # fmt: skip
    is_problem(ask(kit, "POST", f"/rollouts/{theirs}/abort", headers), 403, "refused")
    is_problem(ask(kit, "GET", f"/rollouts/{theirs}", headers), 403, "refused")
    listed = ask(kit, "GET", "/rollouts", headers).json()["items"]
    assert theirs not in [item["id"] for item in listed]
    wide = {"model": "digits", "version": "1", "selector": "line=1"}
    is_problem(ask(kit, "PUT", "/assignments", headers, wide), 403, "refused")


def test_models_outside_the_scope_are_neither_listed_nor_pushed(kit):
    headers, _ = token(kit, role="releaser", models=["dig*"])
    listed = ask(kit, "GET", "/models", headers).json()["items"]
    assert [item["name"] for item in listed] == ["digits"]
    is_problem(ask(kit, "GET", "/models/pump", headers), 403, "refused")
    form = [("manifest", ("manifest.json", b"{}")), ("files", ("a", b""))]
    answer = kit.http.post(f"{API}/models/pump/versions", files=form, headers=headers)
    is_problem(answer, 403, "refused")


@pytest.mark.parametrize(
    ("scope", "asked", "covered"),
    [
        ("site=berlin", "site=berlin,line=1", True),
        ("site=berlin", "line=1", False),
        ("site=berlin", "site in (berlin,oslo)", False),
        ("site in (berlin,oslo)", "site=oslo", True),
        ("site!=oslo", "site=berlin", True),
        ("site!=oslo", "site=oslo", False),
        ("site!=oslo", "site notin (oslo,rome)", True),
        ("site!=oslo", "!site", True),
        ("site", "site=berlin", True),
        ("site", "!site", False),
        ("!retired", "site=berlin", False),
        ("", "", True),
    ],
)
def test_a_scope_covers_what_its_parts_imply(scope, asked, covered):
    limited = Scope((), selectors.parse(scope))
    assert limited.covers(asked) == covered
    assert limited.covers(limited.narrow(asked))


def test_pages_within_a_scope_neither_skip_nor_repeat_nor_come_short(kit):
    for number in range(12):
        site, model = ("berlin", "oslo")[number % 2], ("digits", "pump")[number % 3 == 0]
        selector = f"site={site},cell={number}"
        rollout = {"model": model, "version": "1", "selector": selector, "slot": f"s{number}"}
        assert ask(kit, "POST", "/rollouts", kit.as_("operator"), rollout).status_code == 201
        body = {"model": model, "version": "1", "selector": selector}
        assert ask(kit, "PUT", "/assignments", kit.as_("operator"), body).status_code == 200
    limited, _ = token(kit, selector="site=berlin", models=["digits"])
    wanted = [f"site=berlin,cell={n}" for n in range(0, 12, 2) if n % 3]
    for path, order in (("/rollouts", -1), ("/assignments", 1)):
        found, cursor, pages = [], "", 0
        while cursor is not None:
            page = ask(kit, "GET", f"{path}?limit=2{cursor and '&cursor=' + cursor}", limited)
            found += [item["selector"] for item in page.json()["items"]]
            cursor, pages = page.json()["next"], pages + 1
        assert sorted(found[::order], key=len) == sorted(wanted, key=len)
        assert pages == 2


# Two people


def test_where_two_are_asked_for_nobody_approves_their_own_rollout(tmp_path):
    kit = open_kit(tmp_path, settings={"governance": Governance(two_people=True)})
    try:
        with kit.hub.store.write() as session:
            add_version(session, "digits", "1")
        ada, bob = person(kit, "ada"), person(kit, "bob")
        made = ask(kit, "POST", "/rollouts", ada, {"model": "digits", "version": "1"}).json()
        assert made["plan"]["approve_start"] is True
        path = f"/rollouts/{made['id']}/approve"
        assert "ada" in is_problem(ask(kit, "POST", path, ada), 403, "refused")
        assert ask(kit, "POST", path, bob).status_code == 200
        with kit.hub.store.read() as session:
            assert session.get_one(Rollout, made["id"]).approved == 0
    finally:
        kit.close()


def test_a_token_of_ones_own_making_is_no_second_person(tmp_path):
    kit = open_kit(tmp_path, settings={"governance": Governance(two_people=True)})
    try:
        with kit.hub.store.write() as session:
            add_version(session, "digits", "1")
            add_version(session, "digits", "2")
        ada = person(kit, "ada", "admin")
        made = ask(kit, "POST", "/tokens", ada, {"name": "helper", "role": "operator"}).json()
        helper = {"Authorization": f"Bearer {made['token']}"}
        bob = person(kit, "bob")
        for version, starter, other in (("1", ada, helper), ("2", helper, ada)):
            body = {"model": "digits", "version": version, "slot": f"slot-{version}"}
            number = ask(kit, "POST", "/rollouts", starter, body).json()["id"]
            path = f"/rollouts/{number}/approve"
            detail = is_problem(ask(kit, "POST", path, other), 403, "refused")
            assert "ada may stand behind" in detail
            assert ask(kit, "POST", path, bob).status_code == 200
    finally:
        kit.close()


def test_nor_is_a_token_made_by_a_token_of_ones_own_making(tmp_path):
    kit = open_kit(tmp_path, settings={"governance": Governance(two_people=True)})
    try:
        with kit.hub.store.write() as session:
            add_version(session, "digits", "1")
        ada = person(kit, "ada", "admin")
        maker = ada
        for name, role in (("second", "admin"), ("third", "operator")):
            made = ask(kit, "POST", "/tokens", maker, {"name": name, "role": role}).json()
            maker = {"Authorization": f"Bearer {made['token']}"}
        number = ask(kit, "POST", "/rollouts", ada, {"model": "digits", "version": "1"}).json()
        path = f"/rollouts/{number['id']}/approve"
        assert "ada may stand behind third too" in is_problem(
            ask(kit, "POST", path, maker), 403, "refused"
        )
    finally:
        kit.close()


def test_a_version_is_approved_by_no_token_of_its_pushers_making(tmp_path):
    kit = open_kit(tmp_path, settings={"governance": Governance(two_people=True)})
    try:
        ada = person(kit, "ada", "admin")
        made = ask(kit, "POST", "/tokens", ada, {"name": "helper", "role": "releaser"}).json()
        helper = {"Authorization": f"Bearer {made['token']}"}
        pushers = (("1", "token:ada", helper), ("2", "token:helper", ada), ("3", "token:ada", ada))
        with kit.hub.store.write() as session:
            for version, pusher, _ in pushers:
                add_version(session, "digits", version, "awaiting_approval", pusher)
        for version, _, other in pushers:
            path = f"/models/digits/versions/{version}/approve"
            detail = is_problem(ask(kit, "POST", path, other), 403, "refused")
            assert f"pushed digits {version}, and ada may stand behind" in detail
        assert "ada may stand behind helper too" in is_problem(
            ask(kit, "POST", "/models/digits/versions/1/approve", helper), 403, "refused"
        )
        with kit.hub.store.write() as session:
            session.get_one(ApiToken, sha256_hex(helper["Authorization"][7:].encode())).revoked = 1
        still = ask(kit, "POST", "/models/digits/versions/2/approve", ada)
        assert "ada may stand behind ada too" in is_problem(still, 403, "refused")
        with kit.hub.store.read() as session:
            people.must_be_another(session, "token:ada", "token:bob", "pushed digits 1")
    finally:
        kit.close()


# Once, and only what was seen


def test_a_repeated_key_is_answered_alike_and_acted_on_once(kit):
    headers, body = kit.as_("admin"), {"name": "ci", "role": "viewer"}
    first = ask(kit, "POST", "/tokens", headers, body, **{"Idempotency-Key": "k1"})
    again = ask(kit, "POST", "/tokens", headers, body, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    other = ask(kit, "POST", "/tokens", headers, body, **{"Idempotency-Key": "k2"})
    assert other.json()["id"] != first.json()["id"]
    changed = body | {"role": "operator"}
    answer = ask(kit, "POST", "/tokens", headers, changed, **{"Idempotency-Key": "k1"})
    is_problem(answer, 422, "idempotency_key_reused")
    with kit.hub.store.read() as session:
        kept = b"".join(row.body for row in session.exec(select(KeptAnswer)))
    assert b"mst_" not in kept


def test_a_key_of_somebody_else_or_of_yesterday_counts_for_nothing(kit):
    body = {"labels": {}}
    key = {"Idempotency-Key": "same"}
    first = ask(kit, "POST", "/enroll-tokens", headers := kit.as_("operator"), body, **key)
    theirs = ask(kit, "POST", "/enroll-tokens", kit.as_("operator"), body, **key)
    assert theirs.json() != first.json()
    kit.clock.now += 86_400
    later = ask(kit, "POST", "/enroll-tokens", headers, body, **key)
    assert later.json() != first.json()


def test_a_refused_request_may_be_tried_again_with_its_key(kit):
    key, body = {"Idempotency-Key": "k"}, {"model": "new", "version": "1"}
    headers = kit.as_("operator")
    is_problem(ask(kit, "PUT", "/assignments", headers, body, **key), 404, "not_found")
    with kit.hub.store.write() as session:
        add_version(session, "new", "1")
    assert ask(kit, "PUT", "/assignments", headers, body, **key).status_code == 200


def test_a_revoked_token_gets_no_kept_answer(kit):
    headers, made = token(kit)
    key = {"Idempotency-Key": "k"}
    assert ask(kit, "POST", "/enroll-tokens", headers, {}, **key).is_success
    ask(kit, "POST", f"/tokens/{made['id']}/revoke", kit.as_("admin"))
    is_problem(ask(kit, "POST", "/enroll-tokens", headers, {}, **key), 401, "unauthenticated")


def test_a_change_to_what_somebody_else_changed_meanwhile_is_refused(kit):
    headers = kit.as_("operator")
    seen = ask(kit, "GET", "/devices/cam-1", headers).headers["ETag"]
    body = {"labels": {"site": "berlin", "line": "2"}}
    changed = ask(kit, "PATCH", "/devices/cam-1", headers, body, **{"If-Match": seen})
    assert changed.status_code == 200
    late = ask(kit, "PATCH", "/devices/cam-1", headers, {"labels": {}}, **{"If-Match": seen})
    is_problem(late, 412, "changed_meanwhile")
    again = {"If-Match": changed.headers["ETag"]}
    assert ask(kit, "PATCH", "/devices/cam-1", headers, body, **again).status_code == 200


def test_an_assignment_is_made_changed_and_withdrawn(kit):
    headers, body = kit.as_("operator"), {"model": "digits", "version": "1", "slot": "vision"}
    made = ask(kit, "PUT", "/assignments", headers, body)
    assert made.json()["precedence"] == 1
    changed = ask(
        kit, "PUT", "/assignments", headers, body | {"version": "2"},
        **{"If-Match": made.headers["ETag"]},
    )  # fmt: skip
    assert (changed.json()["id"], changed.json()["version"]) == (made.json()["id"], "2")
    stale = ask(kit, "PUT", "/assignments", headers, body, **{"If-Match": made.headers["ETag"]})
    is_problem(stale, 412, "changed_meanwhile")
    path = f"/assignments/{made.json()['id']}"
    assert ask(kit, "DELETE", path, headers).status_code == 204
    is_problem(ask(kit, "GET", path, headers), 404, "not_found")


def test_who_asks_too_fast_is_told_when_to_come_back(tmp_path):
    kit = open_kit(tmp_path, settings={"http": Http(reads_per_second=1, strangers_per_second=1)})
    try:
        headers = kit.as_("viewer")
        answers = [ask(kit, "GET", "/whoami", headers) for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        is_problem(refused[0], 429, "too_many")
        assert int(refused[0].headers["Retry-After"]) >= 1
        guesses = [
            ask(kit, "GET", "/whoami", {"Authorization": f"Bearer mst_{number}"}).status_code
            for number in range(12)
        ]
        assert guesses[:2] == [401, 401]
        assert guesses[-1] == 429
    finally:
        kit.close()


# Rehearsals


def test_a_rollout_is_rehearsed_without_a_trace(kit):
    body = {
        "model": "digits", "version": "1", "canary": 1,
        "budgets": [{"group_by": ["site"], "max_unavailable": 1}],
    }  # fmt: skip
    plan = ask(kit, "POST", "/rollouts/plan", kit.as_("operator"), body).json()
    assert (plan["devices"], [wave["count"] for wave in plan["waves"]]) == (2, [1, 1])
    assert [group["group"] for group in plan["budgets"]] == ["site=berlin", "site=oslo"]
    assert plan["bytes_delivered"] == 2 * plan["bytes_each"]
    assert ask(kit, "GET", "/rollouts", kit.as_("viewer")).json()["items"] == []
    never = body | {"budgets": [{"group_by": ["site"], "min_available": 1}]}
    answer = ask(kit, "POST", "/rollouts/plan", kit.as_("operator"), never)
    assert "never" in is_problem(answer, 409, "conflict")
