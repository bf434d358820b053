"""Webhooks made through the API: their secrets, their limits, what they are told, the commands."""

import base64
import hashlib
import hmac
import json

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import OperatorError
from muster_hub.alerts import step, webhooks
from muster_hub.alerts.sender import WebhookSender
from muster_hub.errors import ConfigError
from muster_hub.settings.alerts import Alerts, Receiver
from muster_hub.storage.alerting import Webhook, WebhookDelivery
from muster_hub.storage.models import Alert, Audit, Device
from muster_hub.storage.sealing import KEY_FILE, Sealing
from support.hub_kit import API, is_problem, open_kit
from support.hub_store import open_store
from support.web import Web, serving


@pytest.fixture
def web():
    made = Web()
    with serving(made.server):
        yield made


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ask(kit):
    admin = kit.as_("admin")

    def asking(method, path, body=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return kit.http.request(method, f"{API}{path}", json=body, headers=admin | named)

    return asking


def genuine(secret, headers, body):
    signed = f"{headers['X-Muster-Delivery']}.{headers['X-Muster-Timestamp']}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return headers["X-Muster-Signature"] == "v1," + base64.b64encode(digest).decode()


def alert(kit, **fields):
    now = kit.clock()
    settled = {"key": "drift/cam-1/digits", "kind": "drift", "severity": "warning",
               "state": "open", "opened": now, "updated": now, "title": "cam-1 drifts"}  # fmt: skip
    with kit.hub.store.write() as session:
        if session.get(Device, "cam-1") is None:
            session.add(Device(id="cam-1", created=0.0))
            session.flush()
        session.add(Alert(device="cam-1", **(settled | fields)))


def queued_and_taken(kit, settings, directory):
    """What is queued now, and how much of it is taken."""
    with kit.hub.store.write() as session:
        queued = step.step(session, settings, kit.clock())
    sender = WebhookSender(kit.hub.store, settings, directory, kit.hub.sealing, now=kit.clock)
    return queued, sender.send_due()


# The resource


def test_a_secret_is_shown_once_and_nowhere_in_the_database(kit, ask):
    made = ask("POST", "/webhooks", {"name": "pager", "url": "https://pager.example/x"})
    assert made.status_code == 201, made.text
    secret = made.json()["secret"]
    assert made.json()["on"] == ["opened", "escalated", "resolved"]
    for path in ("/webhooks", "/webhooks/pager", "/audit?limit=500"):
        assert secret not in ask("GET", path).text
    assert "secret" not in ask("GET", "/webhooks/pager").json()
    with kit.hub.store.read() as session:
        (row,) = session.exec(select(Webhook)).all()
    assert secret.encode() not in row.secret
    assert kit.hub.sealing.open("webhook/pager", row.secret) == secret.encode()
    database = (kit.hub.config.data / "hub.db").read_bytes()
    assert secret.encode() not in database


def test_a_sealed_secret_opens_only_for_its_own_webhook_and_under_its_own_key(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sealing = Sealing(tmp_path / "a")
    sealed = sealing.seal("webhook/a", b"secret")
    assert Sealing(tmp_path / "a").open("webhook/a", sealed) == b"secret"
    assert (tmp_path / "a" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="restore that file"):
        sealing.open("webhook/b", sealed)
    with pytest.raises(ConfigError, match="restore that file"):
        Sealing(tmp_path / "b").open("webhook/a", sealed)
    (tmp_path / "a" / KEY_FILE).write_bytes(b"short")
    with pytest.raises(ConfigError, match="not a key"):
        Sealing(tmp_path / "a")


def test_only_an_admin_sees_or_changes_webhooks(kit):
    body = {"name": "pager", "url": "https://pager.example/x"}
    for role in ("viewer", "operator", "releaser"):
        headers = kit.as_(role)
        for method, path in (
            ("GET", "/webhooks"), ("POST", "/webhooks"), ("GET", "/webhooks/pager"),
            ("PUT", "/webhooks/pager"), ("DELETE", "/webhooks/pager"),
            ("POST", "/webhooks/pager/test"), ("POST", "/webhooks/pager/secret"),
        ):  # fmt: skip
            answer = kit.http.request(method, f"{API}{path}", json=body, headers=headers)
            assert answer.status_code == 403, (role, method, path)


def test_every_act_on_a_webhook_is_audited_without_its_secret(kit, ask, web):
    secret = ask("POST", "/webhooks", {"name": "pager", "url": web.url}).json()["secret"]
    ask("PUT", "/webhooks/pager", {"url": web.url, "on": ["digest"], "causes": ["drift"]})
    ask("POST", "/webhooks/pager/test")
    renewed = ask("POST", "/webhooks/pager/secret").json()["secret"]
    assert ask("DELETE", "/webhooks/pager").status_code == 204
    with kit.hub.store.read() as session:
        rows = session.exec(select(Audit).where(Audit.subject == "webhook/pager")).all()
    assert [row.action for row in rows] == [
        "webhook.make", "webhook.put", "webhook.test", "webhook.secret", "webhook.delete",
    ]  # fmt: skip
    assert {row.actor for row in rows} == {"token:a-admin"}
    assert rows[1].detail == {"url": web.url, "on": ["digest"], "causes": ["drift"]}
    assert not any(item in str(row.model_dump()) for row in rows for item in (secret, renewed))


def test_a_webhook_is_changed_only_by_who_has_seen_its_present_state(ask):
    seen = ask("POST", "/webhooks", {"name": "pager", "url": "https://a.example"}).headers["ETag"]
    body = {"url": "https://b.example"}
    changed = ask("PUT", "/webhooks/pager", body, If_Match=seen)
    assert changed.json()["url"] == "https://b.example"
    is_problem(ask("PUT", "/webhooks/pager", body, If_Match=seen), 412, "changed_meanwhile")
    is_problem(ask("DELETE", "/webhooks/pager", If_Match=seen), 412, "changed_meanwhile")
    is_problem(ask("POST", "/webhooks/pager/secret", If_Match=seen), 412, "changed_meanwhile")
    latest = ask("GET", "/webhooks/pager").headers["ETag"]
    assert latest == changed.headers["ETag"] != seen
    assert ask("DELETE", "/webhooks/pager", If_Match=latest).status_code == 204
    is_problem(ask("GET", "/webhooks/pager"), 404, "not_found")


def test_a_repeated_request_makes_one_webhook_and_shows_the_same_secret(ask):
    body = {"name": "pager", "url": "https://a.example"}
    first = ask("POST", "/webhooks", body, Idempotency_Key="once")
    again = ask("POST", "/webhooks", body, Idempotency_Key="once")
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    is_problem(ask("POST", "/webhooks", body), 409, "conflict")


def test_there_are_never_more_webhooks_than_the_limit(ask):
    for number in range(webhooks.WEBHOOKS_MAX):
        made = ask("POST", "/webhooks", {"name": f"hook-{number:02}", "url": "https://a.example"})
        assert made.status_code == 201
    says = is_problem(
        ask("POST", "/webhooks", {"name": "more", "url": "https://a.example"}), 409, "conflict"
    )
    assert f"{webhooks.WEBHOOKS_MAX} webhooks" in says
    first = ask("GET", "/webhooks?limit=20").json()
    rest = ask("GET", f"/webhooks?limit=20&cursor={first['next']}").json()
    names = [item["name"] for item in first["items"] + rest["items"]]
    assert names == sorted(names)
    assert (len(names), rest["next"]) == (webhooks.WEBHOOKS_MAX, None)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "https://", "https:///x", "http://user:word@a.example", "http://a b",
     "http://a.example/\nX: y", "https://a.example:99999"],
)  # fmt: skip
def test_an_address_that_nothing_could_be_posted_to_is_refused(ask, url):
    is_problem(ask("POST", "/webhooks", {"name": "x", "url": url}), 422, "invalid")
    assert ask("GET", "/webhooks").json()["items"] == []


# What it is told


def test_webhooks_of_the_database_and_of_the_settings_are_told_alike(kit, ask, web, tmp_path):
    secret = ask("POST", "/webhooks", {"name": "hook", "url": web.url}).json()["secret"]
    (tmp_path / "hook.key").write_bytes(b"of the file")
    named = Receiver(name="hook", kind="webhook", url=web.url, secret_file="hook.key")
    settings = Alerts(receivers=(named,), group_seconds=0)
    alert(kit)
    assert queued_and_taken(kit, settings, tmp_path) == (2, 2)
    (_, *first), (_, *second) = web.got
    assert first[1] == second[1]
    assert json.loads(first[1])["type"] == "alert.opened"
    keys = ("of the file", secret)
    signed = [[key for key in keys if genuine(key, *item)] for item in (first, second)]
    assert sorted(signed) == sorted([["of the file"], [secret]])
    seen = ask("GET", "/webhooks/hook").json()
    assert (seen["tried"], seen["fault"]) == (kit.clock(), "")


def test_a_webhook_hears_only_of_what_it_asked_for(kit, ask, web, tmp_path):
    ask("POST", "/webhooks", {"name": "ends", "url": web.url, "on": ["resolved"]})
    ask("POST", "/webhooks", {"name": "quiet", "url": web.url, "causes": ["silence"]})
    alert(kit)
    assert queued_and_taken(kit, Alerts(group_seconds=0), tmp_path) == (0, 0)


def test_a_delivery_that_is_not_taken_shows_at_its_webhook_and_waits(kit, ask, web, tmp_path):
    ask("POST", "/webhooks", {"name": "hook", "url": web.url})
    web.answers = [503]
    alert(kit)
    assert queued_and_taken(kit, Alerts(group_seconds=0), tmp_path) == (1, 0)
    assert "answered 503" in ask("GET", "/webhooks/hook").json()["fault"]
    ask("DELETE", "/webhooks/hook")
    with kit.hub.store.read() as session:
        assert session.exec(select(WebhookDelivery)).all() == [], "nobody waits for it any more"


def test_a_renewed_secret_signs_from_then_on_alone(kit, ask, web):
    old = ask("POST", "/webhooks", {"name": "hook", "url": web.url}).json()["secret"]
    ask("POST", "/webhooks/hook/test")
    new = ask("POST", "/webhooks/hook/secret").json()["secret"]
    ask("POST", "/webhooks/hook/test")
    assert [genuine(old, *got[1:]) for got in web.got] == [True, False]
    assert [genuine(new, *got[1:]) for got in web.got] == [False, True]


def test_a_test_delivery_says_whether_it_was_taken_and_why_not(ask, web):
    ask("POST", "/webhooks", {"name": "hook", "url": web.url})
    taken = ask("POST", "/webhooks/hook/test").json()
    assert (taken["taken"], taken["fault"]) == (True, "")
    assert web.got[0][1]["X-Muster-Delivery"] == taken["delivery"]
    assert json.loads(web.got[0][2])["type"] == "test"
    web.answers = [302]
    refused = ask("POST", "/webhooks/hook/test").json()
    assert (refused["taken"], "answered 302" in refused["fault"]) == (False, True)


def test_a_secret_that_the_hub_can_no_longer_read_is_a_fault_and_no_wrong_signature(
    tmp_path, kit, ask, web
):
    ask("POST", "/webhooks", {"name": "hook", "url": web.url})
    (tmp_path / "other").mkdir()
    kit.hub.sealing = Sealing(tmp_path / "other")
    answer = ask("POST", "/webhooks/hook/test").json()
    assert not answer["taken"]
    assert "have a new secret made" in answer["fault"]
    assert web.got == []
    ask("POST", "/webhooks/hook/secret")
    assert ask("POST", "/webhooks/hook/test").json()["taken"]


def test_webhooks_work_on_both_databases(tmp_path, database, web):
    store = open_store(tmp_path, url=database)
    sealing = Sealing(tmp_path)
    with store.write() as session:
        webhooks.create(
            session, sealing, name="hook", url=web.url, notices=["opened"], causes=[], now=1.0,
            by="test",
        )  # fmt: skip
        session.add(Device(id="cam-1", created=0.0))
        session.flush()
        session.add(
            Alert(
                key="k", device="cam-1", kind="drift", severity="warning", state="open",
                opened=1.0, updated=1.0, title="t",
            )
        )  # fmt: skip
    settings = Alerts(group_seconds=0)
    with store.write() as session:
        assert step.step(session, settings, 2.0) == 1
    assert WebhookSender(store, settings, tmp_path, sealing, now=lambda: 2.0).send_due() == 1
    assert len(web.got) == 1
    store.close()


# The commands


def muster(kit, *arguments):
    token = kit.as_("admin")["Authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(app, ["--hub", str(kit.http.base_url), "--token", token, *arguments])


def test_the_commands_add_test_list_and_remove_a_webhook(kit, web):
    made = muster(kit, "webhook", "add", "hook", web.url, "--on", "opened", "--cause", "drift")
    assert made.exit_code == 0, made.output
    assert "took delivery" in muster(kit, "webhook", "test", "hook").stdout
    assert genuine(made.stdout.strip(), *web.got[0][1:])
    (first,) = json.loads(muster(kit, "webhook", "list", "--json").stdout)
    assert (first["name"], first["on"], first["causes"]) == ("hook", ["opened"], ["drift"])
    assert web.url in muster(kit, "webhook", "list").stdout
    web.answers = [500]
    failed = muster(kit, "webhook", "test", "hook", "--json")
    assert json.loads(failed.stdout)["taken"] is False
    assert isinstance(failed.exception, OperatorError)
    assert "answered 500" in str(failed.exception)
    renewed = json.loads(muster(kit, "webhook", "renew", "hook", "--yes", "--json").stdout)
    assert renewed["secret"] != made.stdout.strip()
    assert json.loads(muster(kit, "webhook", "remove", "hook", "--yes", "--json").stdout)["removed"]
    assert "There is no webhook." in muster(kit, "webhook", "list").stdout
