"""People who may do something at a hub reach for more; a device still follows that hub after."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from muster_agent.trust.mirror import TrustMirror
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import ClockReading
from muster_hub.access.governance import make_token
from muster_hub.audit import log
from muster_hub.settings.config import Governance, Http
from muster_hub.signing import keys, roles
from muster_hub.storage.models import Audit, Certificate, Device, EventRow, Model, Rollout, Version
from support.hub_kit import API, Kit, is_problem, open_kit

Headers = dict[str, str]


class Follower:
    """A device that follows the catalogue of a hub."""

    def __init__(self, kit: Kit, directory: Path) -> None:
        directory.mkdir()
        (directory / "root.json").write_bytes(kit.hub.catalogue.factory_root())
        self.kit, self.store, self.releases = kit, TrustStore(directory), 0

    def assert_updates(self, sign: Callable[[], object] = lambda: None) -> None:
        """It takes the next release, which ``sign`` signs when its keys are kept elsewhere."""
        self.releases += 1
        version, catalogue = f"9.{self.releases}", self.kit.hub.catalogue
        now = self.kit.clock()
        catalogue.release("digits", version, version.encode(), now)
        sign()
        files = catalogue.files_to_publish()
        mirror = TrustMirror(self.store.versions(), frozenset({"digits"}), now=0.0)
        while fresh := (mirror.wanted() & files.keys()) - mirror.files.keys():
            for name in fresh:
                mirror.put(name, files[name], 0.0)
        trusted = self.store.refresh(mirror.files, mirror.models, ClockReading(now, "synchronised"))
        assert trusted.manifest_target("digits", version, now=int(now)) is not None


class Site:
    """A hub for two sites with a device in each, and a device that follows its catalogue."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.kit: Kit = open_kit(directory, settings=settings)
        with self.kit.hub.store.write() as session:
            for model in ("digits", "pump"):
                session.add(Model(name=model, created=1))
                session.flush()
                for version in ("1", "2"):
                    session.add(
                        Version(
                            model=model, version=version, manifest_sha256=model + version,
                            manifest=b"{}", status="published", size_bytes=1, created=1,
                            created_by="test",
                        )
                    )  # fmt: skip
        for name, site in (("cam-1", "berlin"), ("cam-2", "oslo")):
            token = self.kit.enrol_token(device=name, labels={"site": site})
            assert self.kit.enrol(token, name=name).status_code == 200
        self.follower = Follower(self.kit, directory / "device")

    def token(self, role: str, by: str = "hub", **more: Any) -> Headers:
        with self.kit.hub.store.write() as session:
            name = more.pop("name", f"a-{role}")
            text = make_token(session, name, role, self.kit.clock(), by=by, **more)  # type: ignore[arg-type]  # any text may be tried
        return {"Authorization": f"Bearer {text}"}

    def ask(self, method: str, path: str, headers: Headers, **body: Any) -> httpx.Response:
        more: dict[str, Any] = {"json": body} if body else {}
        return self.kit.http.request(method, f"{API}{path}", headers=headers, **more)

    def refused(self) -> list[str]:
        with self.kit.hub.store.read() as session:
            found = select(Audit).where(Audit.action == "access.refused").order_by(Audit.id)
            return [f"{row.actor} {row.subject}" for row in session.exec(found)]

    def certificate(self, device: str) -> str:
        with self.kit.hub.store.read() as session:
            held = select(Certificate).where(
                Certificate.device == device, Certificate.revoked.is_(None)
            )
            return session.exec(held).one().serial

    def assert_updates(self) -> None:
        """The hub still serves who may, its log is whole, and a device takes its next release."""
        assert self.ask("GET", "/devices", self.token("viewer")).status_code == 200
        with self.kit.hub.store.read() as session:
            assert log.check(session, self.kit.hub.sealing).fault == ""
        self.follower.assert_updates()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.kit.close()


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Site]:
    """Where two people are asked for."""
    made = Site(tmp_path, governance=Governance(two_people=True))
    yield made
    made.kit.close()


def test_a_token_of_one_site_takes_over_no_device_of_another(site: Site) -> None:
    berlin = site.token("operator", selector="site=berlin")
    held = site.certificate("cam-2")
    ask = site.ask("POST", "/enroll-tokens", berlin, labels={"site": "berlin"}, device="cam-2")
    assert "cam-2 is not one" in is_problem(ask, 403, "refused")
    assert site.certificate("cam-2") == held
    assert site.refused() == ["token:a-operator enrol-token.make"]
    site.assert_updates()


def test_nor_one_that_did_not_exist_when_its_token_was_asked_for(site: Site) -> None:
    berlin = site.token("operator", selector="site=berlin")
    answer = site.ask("POST", "/enroll-tokens", berlin, labels={"site": "berlin"}, device="cam-3")
    early = answer.json()["token"]
    honest = site.kit.enrol_token(device="cam-3", labels={"site": "oslo"})
    assert site.kit.enrol(honest, name="cam-3").status_code == 200
    held = site.certificate("cam-3")
    taken = site.kit.enrol(early, name="cam-3")
    assert "none of the devices (site=berlin)" in is_problem(taken, 409, "conflict")
    assert site.certificate("cam-3") == held
    site.assert_updates()


def test_who_is_limited_to_a_model_does_not_reach_the_others_through_their_device(
    site: Site,
) -> None:
    limited = site.token("operator", models=["digits"])
    for method, path, body in (
        ("POST", "/devices/cam-1/revoke", {}),
        ("PATCH", "/devices/cam-1", {"labels": {"site": "oslo"}}),
        ("POST", "/silences", {"selector": "site=berlin", "seconds": 60}),
        ("POST", "/enroll-tokens", {"device": "cam-1"}),
        ("POST", "/devices/cam-1/rebaseline", {"model": "pump"}),
    ):
        is_problem(site.ask(method, path, limited, **body), 403, "refused")
    assert len(site.refused()) == 5
    with site.kit.hub.store.read() as session:
        assert not session.get_one(Device, "cam-1").revoked
    site.assert_updates()


def test_an_assignment_is_no_way_around_the_second_person(pairs: Site) -> None:
    operator = pairs.token("operator")
    asked = {"model": "digits", "version": "1", "slot": "main", "selector": "site=berlin"}
    answer = pairs.ask("PUT", "/assignments", operator, **asked)
    assert "only a rollout" in is_problem(answer, 403, "refused")
    assert pairs.ask("GET", "/assignments", operator).json()["items"] == []
    assert pairs.refused() == ["token:a-operator assignment.put"]
    pairs.assert_updates()


def test_two_tokens_of_one_person_are_no_two_people(pairs: Site) -> None:
    """By whatever they were made: by one admin for two names, or one by the other."""
    admin = pairs.token("admin", name="ann")
    made = {
        name: pairs.ask("POST", "/tokens", admin, name=name, role="operator", owner=owner).json()
        for name, owner in (("left", ""), ("right", "bob@example.com"))
    }
    left, right = ({"Authorization": f"Bearer {made[name]['token']}"} for name in ("left", "right"))
    asking = ((left, right), (right, left), (admin, left), (left, admin))
    for number, (starter, other) in enumerate(asking, 1):
        body = {"model": "digits", "version": "1", "slot": f"s{number}"}
        assert pairs.ask("POST", "/rollouts", starter, **body).status_code == 201
        answer = pairs.ask("POST", f"/rollouts/{number}/approve", other)
        assert "ann may stand behind" in is_problem(answer, 403, "refused")
    with pairs.kit.hub.store.read() as session:
        assert {row.approved for row in session.exec(select(Rollout))} == {-1}
    bob = pairs.token("operator", name="bob")
    assert pairs.ask("POST", "/rollouts/1/approve", bob).status_code == 200
    pairs.assert_updates()


def test_a_revoked_token_sees_nothing_more_of_what_it_follows(site: Site) -> None:
    follower, admin = site.token("viewer", name="follower"), site.token("admin")
    seen: list[str] = []
    open_, ended = threading.Event(), threading.Event()

    def follow() -> None:
        url = f"{site.kit.http.base_url}{API}/events/stream"
        with httpx.stream("GET", url, headers=follower, timeout=30) as answer:
            for line in answer.iter_lines():
                seen.append(line)
                open_.set()
        ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert open_.wait(60)
    listed = site.ask("GET", "/tokens", admin).json()["items"]
    (token,) = [item["id"] for item in listed if item["name"] == "follower"]
    assert site.ask("POST", f"/tokens/{token}/revoke", admin).status_code == 200
    assert ended.wait(60), "the hub ends the stream by itself"
    thread.join()
    with site.kit.hub.store.write() as session:
        session.add(EventRow(device="cam-1", kind="secret", received=1.0))
    assert not any("secret" in line for line in seen)
    site.assert_updates()


def test_a_flood_of_refused_requests_does_not_fill_the_log_and_is_told(site: Site) -> None:
    viewer, releaser = site.token("viewer"), site.token("releaser")
    for _ in range(60):
        is_problem(site.ask("POST", "/devices/cam-1/revoke", viewer), 403, "forbidden")
    is_problem(site.ask("POST", "/devices/cam-1/revoke", releaser), 403, "forbidden")
    refused = site.refused()
    assert refused.count("token:a-viewer device.revoke") <= 25
    assert refused[-1] == "token:a-releaser device.revoke", "nobody else's are left out"
    site.kit.clock.now += 60
    is_problem(site.ask("POST", "/devices/cam-1/revoke", viewer), 403, "forbidden")
    with site.kit.hub.store.read() as session:
        row = session.exec(select(Audit).order_by(Audit.id.desc()).limit(1)).one()
    assert row.detail["not_written_before"] >= 35
    assert row.detail["on"] == f"POST {API}/devices/cam-1/revoke"
    site.assert_updates()


def test_a_token_used_after_it_ended_is_in_the_log_by_its_name(site: Site) -> None:
    stolen, admin = site.token("operator", name="stolen"), site.token("admin")
    listed = site.ask("GET", "/tokens", admin).json()["items"]
    (token,) = [item["id"] for item in listed if item["name"] == "stolen"]
    site.ask("POST", f"/tokens/{token}/revoke", admin)
    is_problem(site.ask("POST", "/devices/cam-1/revoke", stolen), 401, "unauthenticated")
    assert [line.split()[0] for line in site.refused()] == ["token:stolen"]
    site.assert_updates()


def test_strangers_behind_one_address_lock_nobody_out(tmp_path: Path) -> None:
    site = Site(tmp_path, http=Http(strangers_per_second=0.5))
    try:
        held = site.token("operator")
        chunk = site.kit.hub.chunk_token("cam-1", int(site.kit.clock()) + 60)
        guesses = 0
        while guesses < 200:
            guesses += 1
            guess = {
                "Authorization": f"Bearer mst_{guesses}", "X-Forwarded-For": f"10.0.0.{guesses}",
            }  # fmt: skip
            if (last := site.ask("GET", "/devices", guess)).status_code == 429:
                break
        is_problem(last, 429, "too_many")
        assert site.ask("GET", "/devices", held).status_code == 200
        device = {"Authorization": f"Bearer {chunk}"}
        is_problem(site.ask("GET", f"/chunks/{'ab' * 32}", device), 404, "not_found")
        site.assert_updates()
    finally:
        site.kit.close()


def test_who_writes_to_the_database_alone_can_not_hide_what_they_did(site: Site) -> None:
    """Rows removed and the chain sealed anew: the codes give it away. Put back, all is well."""
    admin = site.token("admin")
    site.ask("POST", "/devices/cam-2/revoke", admin)
    site.ask("POST", "/silences", admin, selector="site=oslo", seconds=60)
    with site.kit.hub.store.read() as session:
        kept = [row.model_dump() for row in session.exec(log.in_order())]

    def write(rows: list[dict[str, Any]]) -> None:
        with site.kit.hub.store.write() as session:
            for row in session.exec(select(Audit)):
                session.delete(row)
            session.flush()
            session.expunge_all()
            for row in rows:
                session.add(Audit(**row))
                session.flush()

    forged, previous = [], log.GENESIS
    for row in kept:
        if row["action"] != "device.revoke":
            made = Audit(**row | {"previous": previous})
            previous = made.hash = log.seal(made)
            forged.append(made.model_dump())
    write(forged)
    state = site.ask("GET", "/audit/verify", admin).json()
    assert not state["ok"]
    write(kept)
    site.assert_updates()


def test_a_scoped_viewer_reads_nothing_of_another_model(site: Site) -> None:
    with site.kit.hub.store.write() as session:
        row = session.get_one(Device, "cam-1")
        running = {"model": "pump", "version": "1", "manifest": "ab"}
        row.report = {"slots": {"main": {"running": running}}, "refusal_detail": "pump"}
        session.add(EventRow(device="cam-1", kind="refused", received=1.0, model="pump"))
    viewer = site.token("viewer", models=["digits"])
    for path in ("/devices", "/devices/cam-1", "/devices/cam-1/windows", "/devices/cam-1/counts",
                 "/events", "/models", "/rollouts", "/signatures"):  # fmt: skip
        answer = site.ask("GET", path, viewer)
        assert answer.status_code == 200
        assert "pump" not in answer.text, path
    is_problem(site.ask("GET", "/models/pump", viewer), 403, "refused")
    site.assert_updates()


def test_signed_metadata_of_all_models_is_not_taken_from_a_releaser_of_one(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    public = {role: keys.generate(vault / f"{role}.pem") for role in keys.OFFLINE}
    kit = open_kit(tmp_path, offline_public=public)
    try:
        with kit.hub.store.write() as session:
            text = make_token(session, "rick", "releaser", kit.clock(), models=["digits"])
        limited, everybody = {"Authorization": f"Bearer {text}"}, kit.as_("releaser")

        def carry(headers: Headers) -> list[int]:
            """What waits, signed and brought back; the answers."""
            found = []
            answer = kit.http.get(f"{API}/signing-request", headers=everybody)
            for role, draft in answer.json()["roles"].items():
                signer = keys.load_signer(vault / f"{roles.key_role(role)}.pem")
                body = {"metadata": roles.add_signature(draft.encode(), signer).decode()}
                answer = kit.http.post(f"{API}/signatures", json=body, headers=headers)
                found.append(answer.status_code)
            return found

        assert carry(limited) == [403, 403]
        assert carry(everybody) == [200, 200]
        follower = Follower(kit, tmp_path / "device")
        follower.assert_updates(lambda: carry(everybody))
        kit.hub.catalogue.release("digits", "10", b"10", kit.clock())
        assert carry(limited) == [200], "of their own model it is"
    finally:
        kit.close()
