"""Every route × role × scope × object: who is refused, and that nothing out of scope is shown.

What is expected comes from the short table here, not from the registry of acts; a route that isn't
in it fails, and so does one that the table knows and the hub doesn't.
"""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from muster_hub.access.governance import make_token
from muster_hub.access.leave import Leave
from muster_hub.api.app import PREFIX
from muster_hub.api.auth import asks, check_declared, declared, routes_of
from muster_hub.api.once import OnceRoute
from muster_hub.console.site import create_site
from muster_hub.storage.alerting import Silence
from muster_hub.storage.models import (
    Alert,
    Assignment,
    Device,
    DirectiveRow,
    EventRow,
    Model,
    Rollout,
    SummaryWindow,
    Version,
)
from muster_hub.storage.registry import LoopRow, ModelSource
from muster_hub.storage.sampling import SamplingPolicyRow
from support.access_table import (
    ADMINS,
    ALL,
    OPERATORS,
    PAGE,
    RELEASERS,
    ROLES,
    SITES,
    WORKERS,
    Case,
    Target,
    pages,
    release,
)  # fmt: skip
from support.hub_kit import Kit, open_kit

SCOPES: dict[str, dict[str, Any]] = {
    "nothing": {}, "site": {"selector": "site=berlin"}, "model": {"models": ["digits"]},
    "both": {"selector": "site=berlin", "models": ["dig*"]},
}  # fmt: skip
pytestmark = pytest.mark.timeout(900)  # thousands of requests, made for the first test


TARGETS = {
    "own": Target("cam-in", "digits", 1),
    "another device": Target("cam-out", "digits", 2),
    "another model": Target("cam-in", "pump", 3),
}


def cases(target: Target) -> dict[tuple[str, str], Case]:
    device, model, number = f"/devices/{target.device}", f"/models/{target.model}", target.number
    labels = {"labels": {"site": target.site}}
    webhook = {"url": "https://x.example/", "on": ["opened"]}
    found = {
        "GET /whoami": Case(ALL),
        "GET /tokens": Case(ADMINS),
        "POST /tokens": Case(ADMINS, body={"name": "x", "role": "viewer"}),
        "POST /tokens/{token}/revoke": Case(ADMINS, path="/tokens/none/revoke"),
        "POST /sign-in-links": Case(ADMINS, body={"name": "ada"}),
        "GET /users": Case(ADMINS),
        "PUT /users/{name}": Case(ADMINS, path="/users/ada", body={"role": "viewer"}),
        "DELETE /users/{name}": Case(ADMINS, path="/users/none"),
        "GET /audit": Case(ADMINS), "GET /audit/verify": Case(ADMINS),
        "GET /webhooks": Case(ADMINS), "GET /webhooks/{name}": Case(ADMINS, path="/webhooks/none"),
        "POST /webhooks": Case(ADMINS, body={"name": "hook", **webhook}),
        "PUT /webhooks/{name}": Case(ADMINS, path="/webhooks/none", body=webhook),
        "POST /webhooks/{name}/secret": Case(ADMINS, path="/webhooks/none/secret"),
        "POST /webhooks/{name}/test": Case(ADMINS, path="/webhooks/none/test"),
        "DELETE /webhooks/{name}": Case(ADMINS, path="/webhooks/none"),
        "GET /metrics": Case(ALL, "H", "/metrics"),
        "GET /delivery": Case(ALL, "H"), "GET /releases": Case(ALL, "H"),
        "GET /overview": Case(ALL),
        "GET /devices": Case(ALL), "GET /drift": Case(ALL), "GET /events": Case(ALL),
        "GET /events/stream": Case(ALL, path="/events/stream"),
        "GET /devices/{device}": Case(ALL, "d", device),
        "GET /devices/{device}/drift": Case(ALL, "d", f"{device}/drift"),
        "GET /devices/{device}/windows": Case(ALL, "d", f"{device}/windows"),
        "GET /devices/{device}/counts": Case(ALL, "d", f"{device}/counts"),
        "GET /devices/{device}/set-aside": Case(ALL, "dD", f"{device}/set-aside"),
        "GET /devices/{device}/record": Case(
            ADMINS, "dD", f"{device}/record?since=0&until=86400"
        ),
        "PATCH /devices/{device}": Case(OPERATORS, "dD", device, labels),
        "POST /devices/{device}/approve": Case(OPERATORS, "dD", f"{device}/approve"),
        "POST /devices/{device}/revoke": Case(OPERATORS, "dD", f"{device}/revoke"),
        "POST /devices/{device}/replace": Case(OPERATORS, "dD", f"{device}/replace", {}),
        "DELETE /devices/{device}": Case(OPERATORS, "dD", device),
        "POST /devices/{device}/retry": Case(OPERATORS, "dD", f"{device}/retry", {}),
        "POST /devices/{device}/restart": Case(OPERATORS, "dD", f"{device}/restart"),
        "POST /devices/{device}/diagnose": Case(OPERATORS, "dD", f"{device}/diagnose"),
        "GET /devices/{device}/diagnosis": Case(ALL, "dD", f"{device}/diagnosis"),
        "POST /devices/{device}/logs": Case(OPERATORS, "dD", f"{device}/logs"),
        "GET /devices/{device}/logs": Case(ALL, "dD", f"{device}/logs"),
        "POST /devices/{device}/feeds": Case(OPERATORS, "dD", f"{device}/feeds"),
        "GET /devices/{device}/feeds": Case(ALL, "dD", f"{device}/feeds"),
        "POST /devices/{device}/rebaseline": Case(
            OPERATORS, "dm", f"{device}/rebaseline", {"model": target.model}
        ),
        "POST /enroll-tokens": Case(
            OPERATORS, "dD", body={"labels": {"site": "berlin"}, "device": target.device}
        ),
        "GET /models": Case(ALL), "GET /models/{model}": Case(ALL, "m", model),
        "GET /models/{model}/versions/{version}": Case(ALL, "m", f"{model}/versions/1"),
        "GET /models/{model}/aliases": Case(ALL, "m", f"{model}/aliases"),
        "PUT /models/{model}/aliases/{alias}": Case(
            RELEASERS, "m", f"{model}/aliases/champion", {"version": "1"}
        ),
        "DELETE /models/{model}/aliases/{alias}": Case(RELEASERS, "m", f"{model}/aliases/none"),
        "GET /models/{model}/policy": Case(ALL, "m", f"{model}/policy"),
        "PUT /models/{model}/policy": Case(
            ADMINS, "m", f"{model}/policy", {"gates": [{"gate": "card"}]}
        ),
        "DELETE /models/{model}/policy": Case(ADMINS, "m", f"{model}/policy"),
        "GET /models/{model}/versions/{version}/card": Case(ALL, "m", f"{model}/versions/1/card"),
        "GET /models/{model}/versions/{version}/card.md": Case(
            ALL, "m", f"{model}/versions/1/card.md"
        ),
        "GET /models/{model}/versions/{version}/bill": Case(ALL, "m", f"{model}/versions/1/bill"),
        "GET /sources": Case(ALL),
        "POST /sources": Case(
            RELEASERS, "m", "/sources", {"uri": f"folder:{target.model}", "model": target.model}
        ),
        "POST /sources/{source}/look": Case(RELEASERS, "m", f"/sources/{number}/look", {}),
        "DELETE /sources/{source}": Case(RELEASERS, "m", f"/sources/{number}"),
        "GET /loops": Case(ALL),
        "POST /loops": Case(WORKERS, "m", "/loops", {"model": target.model}),
        "GET /loops/{loop}": Case(ALL, "m", f"/loops/{number}"),
        "POST /loops/{loop}/approve": Case(WORKERS, "m", f"/loops/{number}/approve"),
        "POST /loops/{loop}/abandon": Case(WORKERS, "m", f"/loops/{number}/abandon", {}),
        "POST /loops/{loop}/candidate": Case(
            RELEASERS, "m", f"/loops/{number}/candidate", {"version": "1"}
        ),
        "GET /sampling": Case(ALL),
        "POST /sampling": Case(
            OPERATORS, "dm", "/sampling",
            release(target) | {"features": {"x": "plain"}, "rows_per_day": 1},
        ),
        "GET /sampling/{policy}": Case(ALL, "dm", f"/sampling/{number}"),
        "POST /sampling/{policy}/end": Case(OPERATORS, "dm", f"/sampling/{number}/end", {}),
        "GET /sampling/{policy}/samples": Case(WORKERS, "dm", f"/sampling/{number}/samples"),
        "GET /sampling/{policy}/samples.jsonl": Case(
            WORKERS, "dm", f"/sampling/{number}/samples.jsonl"
        ),
        "POST /sampling/{policy}/labels": Case(
            WORKERS, "dm", f"/sampling/{number}/labels", {"labels": {"ab" * 32: "ok"}}
        ),
        "POST /sampling/{policy}/forget": Case(OPERATORS, "dm", f"/sampling/{number}/forget"),
        "GET /models/{model}/history": Case(ALL, "m", f"{model}/history"),
        "POST /models/{model}/versions": Case(RELEASERS, "m", f"{model}/versions", form=True),
        "POST /models/{model}/versions/{version}/check": Case(
            RELEASERS, "m", f"{model}/versions/1/check"
        ),
        "POST /models/{model}/versions/{version}/approve": Case(
            RELEASERS, "m", f"{model}/versions/1/approve"
        ),
        "GET /agent-releases": Case(ALL),
        "POST /agent-releases": Case(RELEASERS, "D", form=True),
        "GET /agent-releases/{version}": Case(ALL, "D", "/agent-releases/none"),
        "GET /signing-request": Case(RELEASERS),
        "POST /signatures": Case(RELEASERS, body={"metadata": "{}"}),
        "GET /signatures": Case(ALL), "GET /expiries": Case(ALL, path="/expiries?days=3650"),
        "GET /assignments": Case(ALL),
        "GET /assignments/{assignment}": Case(ALL, "dm", f"/assignments/{number}"),
        "PUT /assignments": Case(OPERATORS, "dm", body={"slot": "new", **release(target)}),
        "POST /assignments/plan": Case(OPERATORS, "dm", body={"slot": "new", **release(target)}),
        "DELETE /assignments/{assignment}": Case(OPERATORS, "dm", f"/assignments/{number}"),
        "GET /rollouts": Case(ALL),
        "GET /rollouts/{rollout}": Case(ALL, "dm", f"/rollouts/{number}"),
        # Of other devices nothing is reached: the selector is narrowed.
        "POST /rollouts": Case(OPERATORS, "m", body={"slot": "new", **release(target)}),
        "POST /rollouts/plan": Case(OPERATORS, "m", body={"slot": "new", **release(target)}),
        "POST /rollouts/{rollout}/{action}": Case(OPERATORS, "dm", f"/rollouts/{number}/pause"),
        "POST /rollouts/{rollout}/metrics": Case(
            OPERATORS, "m", f"/rollouts/{number}/metrics",
            {"metric": "scrap", "values": [{"device": target.device, "value": 1.0}]},
        ),
        "GET /alerts": Case(ALL), "GET /alerts/{alert}": Case(ALL, "dm", f"/alerts/{number}"),
        "POST /alerts/{alert}/{action}": Case(OPERATORS, "dm", f"/alerts/{number}/acknowledge"),
        "GET /feed-settings": Case(ALL),
        "PUT /feed-settings/{name}": Case(
            OPERATORS, "dD", "/feed-settings/x",
            {"selector": f"site={target.site}", "feed": "press", "settings": {"sources.a.b": 1}},
        ),
        "POST /feed-settings/{name}/plan": Case(
            OPERATORS, "dD", "/feed-settings/x/plan",
            {"selector": f"site={target.site}", "feed": "press", "settings": {"sources.a.b": 1}},
        ),
        "DELETE /feed-settings/{name}": Case(OPERATORS, path="/feed-settings/none"),
        "GET /silences": Case(ALL),
        "POST /silences": Case(
            OPERATORS, "dD", body={"selector": f"site={target.site}", "seconds": 60}
        ),
        "POST /silences/{silence}/end": Case(OPERATORS, "dD", f"/silences/{number}/end"),
    }  # fmt: skip
    found |= pages(target)
    return {(name.split()[0], name.split()[1]): case for name, case in found.items()}


def where(route: APIRoute) -> str:
    """A route's path as the table has it."""
    marked = route.endpoint.__module__.startswith("muster_hub.console")
    return f"{PAGE}{route.path}" if marked else route.path


def address(path: str) -> str:
    return path.removeprefix(PAGE) if path.startswith((PAGE, "/metrics")) else PREFIX + path


def refused(case: Case, role: str, scope: str, target: Target) -> bool:
    """What the table says."""
    site, model = scope in ("site", "both"), scope in ("model", "both")
    return (
        role not in case.roles
        or ("d" in case.sides and site and target.device != "cam-in")
        or ("m" in case.sides and model and target.model != "digits")
        or ("D" in case.sides and model)
        or ("H" in case.sides and (site or model))
    )


class Matrix:
    """A hub with an object of each kind for each target, and a way back to how it was."""

    def __init__(self, directory: Path) -> None:
        self.kit: Kit = open_kit(directory)
        now = self.kit.clock()
        for model in ("digits", "pump"):
            self.kit.hub.catalogue.release(model, "1", model.encode(), now)
        with self.kit.hub.store.write() as session:
            for model in ("digits", "pump"):
                session.add(Model(name=model, created=1))
                session.flush()
                session.add(
                    Version(
                        model=model, version="1", manifest_sha256=model, manifest=b"{}",
                        status="published", size_bytes=1, created=1, created_by="test",
                    )
                )  # fmt: skip
            for name, site in SITES.items():
                session.add(Device(id=name, labels={"site": site, "x": "1"}, created=1,
                                   online=True, reported=now, report=report(now),
                                   certificate_expires=now + 86_400, late_from=1))  # fmt: skip
            session.flush()
            for target in TARGETS.values():
                self._fill(session, target, now)
        self.tokens = {}
        with self.kit.hub.store.write() as session:
            for role, (name, scope) in itertools.product(ROLES, SCOPES.items()):
                if role != "admin" or not scope:
                    text = make_token(session, "somebody", role, now, **scope)
                    self.tokens[role, name] = {"Authorization": f"Bearer {text}"}
        self.database = self.kit.hub.config.data / "hub.db"
        self.kept = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(self.database)) as live:
            live.backup(self.kept)

    def _fill(self, session: Any, target: Target, now: float) -> None:
        selector = f"site={target.site},n={target.number}"
        about = {"model": target.model, "version": "1"}
        session.add(Rollout(manifest=target.model, slot=f"s{target.number}", selector=selector,
                            state="running", plan={}, created=1, created_by="test", updated=1,
                            **about))  # fmt: skip
        session.add(Assignment(slot="main", selector=selector, precedence=target.number, created=1,
                               **about))  # fmt: skip
        session.add(
            Alert(key=f"drift/{target.device}/{target.model}", kind="drift", severity="warning",
                  state="open", opened=1, updated=1, device=target.device, detail=about,
                  title=f"{target.device}: {target.model} drifts")
        )  # fmt: skip
        session.add(ModelSource(uri=f"folder:{target.number}", model=target.model,
                                every_seconds=60, created=1, created_by="x"))  # fmt: skip
        alerts = [{"device": target.device, "title": "it drifts"}]
        session.add(LoopRow(model=target.model, state="closed", opened=1, since=1, deadline=1,
                            ended=1, cause="drift", opened_by="hub",
                            detail={"alerts": alerts}))  # fmt: skip
        session.add(SamplingPolicyRow(model=target.model, version="1", manifest="",
                                      selector=f"site={target.site},x=1", bytes_max=1, created=1,
                                      created_by="x", expires=9e9))  # fmt: skip
        session.add(Silence(selector=f"site={target.site}", until=now + 9e6, by="x", created=1))
        session.add(SummaryWindow(device=target.device, epoch="e", sequence=target.number,
                                  start=1.0, seconds=1.0, n=5, received=2.0, payload=b"",
                                  **about))  # fmt: skip
        session.add(
            EventRow(
                device=target.device,
                kind="refused",
                received=now,
                detail=f"{target.device} {target.model}",
                model=target.model,
            )
        )
        session.add(EventRow(device=target.device, kind="alert", received=now, model=target.model,
                             detail=f"{target.device}: {target.model} drifts"))  # fmt: skip
        payload = {"slots": {slot: {"champion": item} for slot, item in slots().items()}}
        if target.model == "digits":
            session.add(DirectiveRow(device=target.device, epoch=1, generation=1, envelope=b"",
                                     content_sha256="", payload=msgspec.json.encode(payload),
                                     issued=1, expires=now))  # fmt: skip
        session.flush()

    def restore(self) -> None:
        with closing(sqlite3.connect(self.database)) as live:
            self.kept.backup(live)

    def ask(self, method: str, case: Case, route: str, headers: dict[str, str]) -> tuple[int, str]:
        path = case.path or route
        url = address(path)
        files = [
            ("manifest", ("manifest.json", b"{}")),
            ("files", ("a", b"")),
            ("file", ("a", b"")),
        ]
        more = {"files": files} if case.form else {"json": case.body}
        if case.fields is not None:
            more = {"data": case.fields}
        if method == "GET":
            more = {}
        own_site = {"Sec-Fetch-Site": "same-origin"} | headers
        with self.kit.http.stream(method, url, headers=own_site, timeout=60, **more) as answer:
            if "event-stream" in answer.headers.get("content-type", ""):
                return answer.status_code, ""
            answer.read()
        if method != "GET" and answer.is_success:
            self.restore()
        return answer.status_code, answer.text


def slots() -> dict[str, dict[str, str]]:
    return {
        slot: {"model": model, "version": "1", "manifest": model}
        for slot, model in (("main", "digits"), ("other", "pump"))
    }


def report(now: float) -> dict[str, Any]:
    """What a device that runs both models says."""
    return {
        "slots": {
            slot: {"health": "ok", "running": item, "update": {"state": "idle", **item}}
            for slot, item in slots().items()
        },
        "refusal_detail": "model-pump is not signed",
        "trust": {"expires": {"timestamp": now + 9, "model-digits": now + 5, "model-pump": now}},
    }


@dataclass(frozen=True)
class Asked:
    method: str
    route: str
    role: str
    scope: str
    what: str
    status: int
    said: str


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    made = Matrix(tmp_path_factory.mktemp("matrix"))
    yield made
    made.kit.close()


@pytest.fixture(scope="module")
def answers(matrix: Matrix) -> list[Asked]:
    """Every route asked under every token, about every object that it can be about."""
    found = []
    for what, target in TARGETS.items():
        for (method, route), case in cases(target).items():
            if not set(case.sides) & set("dmD") and what != "own":
                continue
            for (role, scope), headers in matrix.tokens.items():
                status, said = matrix.ask(method, case, route, headers)
                found.append(Asked(method, route, role, scope, what, status, said))
    return found


def test_every_route_that_needs_leave_is_in_the_table(matrix: Matrix) -> None:
    found = {
        (method, where(route))
        for route in routes_of(create_site(matrix.kit.hub))
        for method in route.methods
        if not declared(route)[0].startswith("open to")
    }
    assert found == set(cases(TARGETS["own"]))


def test_who_is_refused_what_is_as_the_table_says(answers: list[Asked]) -> None:
    wrong = []
    for item in answers:
        target = TARGETS[item.what]
        case = cases(target)[item.method, item.route]
        expected = refused(case, item.role, item.scope, target)
        if (item.status == 403) != expected or item.status >= 500:
            wrong.append(item)
    assert wrong == []
    assert len(answers) > 1400


def test_nothing_out_of_scope_is_shown(answers: list[Asked]) -> None:
    """In no answer there is a name of what its asker is not to see."""
    hidden = {"nothing": [], "site": ["cam-out", "oslo"], "model": ["pump"],
              "both": ["cam-out", "oslo", "pump"]}  # fmt: skip
    wrong = [
        item
        for item in answers
        if item.method == "GET"
        and item.status == 200
        and item.route != f"{PAGE}/docs"  # the same page for everybody, with examples of its own
        and any(word in item.said for word in hidden[item.scope])
    ]
    assert wrong == []


def test_a_route_that_does_not_say_what_it_is_for_keeps_the_hub_from_starting(
    matrix: Matrix,
) -> None:
    app = create_site(matrix.kit.hub)
    check_declared(app, OnceRoute)
    router = APIRouter(route_class=OnceRoute)

    @router.get("/forgotten")
    def forgotten() -> str:
        return "anybody reads this"

    app.include_router(router)
    with pytest.raises(RuntimeError, match="/forgotten declares nothing"):
        check_declared(app, OnceRoute)
    with pytest.raises(KeyError, match="no act"):
        asks("device.repaint")


def test_a_route_that_answers_without_asking_about_its_object_fails(matrix: Matrix) -> None:
    router = APIRouter(route_class=OnceRoute)

    @router.get("/careless")
    def careless(leave: Annotated[Leave, asks("device.read")]) -> str:
        return f"{leave.actor.name} reads of any device"

    app = create_site(matrix.kit.hub)
    app.include_router(router)
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.get("/careless", headers=matrix.tokens["viewer", "site"])
    assert answer.status_code == 500
    assert "reads of any device" not in answer.text
