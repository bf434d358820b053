"""Each channel's message as its counterpart publishes it, at a receiver that holds it to that."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.alerts import messages, posting
from muster_hub.alerts.channels import ntfy, pagerduty, slack, teams
from muster_hub.alerts.channels.base import Outgoing
from muster_hub.alerts.channels.registry import CHANNELS
from muster_hub.alerts.sender import WebhookSender
from muster_hub.alerts.wording import LINES_MAX
from muster_hub.errors import ConfigError
from muster_hub.settings.alerts import Alerts, Receiver
from muster_hub.storage.sealing import Sealing
from support import channel_schemas
from support.hub_store import open_store
from support.web import Web, serving

KEY = "0123456789abcdef0123456789abcdef"
HUB = "https://hub.example:8443"
AT = 1_700_000_000.0


def alert(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "key": f"drift/cam-{number}", "kind": "drift", "severity": "warning",
        "state": "open", "device": f"cam-{number}", "opened": AT - 60, "updated": AT,
        "title": f"cam-{number}: image.brightness 89.5 → 92.1", "detail": {"model": "digits"},
    } | fields  # fmt: skip


def notice(step: str = "opened", *alerts: dict[str, Any], hub: str = HUB) -> Outgoing:
    listed = list(alerts) or [alert()]
    body = messages.event(step, listed[0]["title"], ("berlin", "digits", "drift"), listed, AT)
    return Outgoing("a1", body, AT, hub)


@dataclass(frozen=True)
class Case:
    """A channel, how its receiver is set up, and what its counterpart takes."""

    receiver: Callable[[str], Receiver]
    secret: str
    schema: dict[str, Any]
    path: str = "/hook"


CASES = {
    "slack": Case(lambda url: Receiver(name="r", kind="slack", url=url), "",
                  channel_schemas.SLACK),
    "teams": Case(lambda url: Receiver(name="r", kind="teams", url=url), "",
                  channel_schemas.TEAMS),
    "pagerduty": Case(
        lambda url: Receiver(name="r", kind="pagerduty", url=url, secret_file="pd.key"), KEY,
        channel_schemas.PAGERDUTY, "/hook/v2/enqueue",
    ),
    "ntfy": Case(lambda url: Receiver(name="r", kind="ntfy", url=url, topic="plant-7"), "",
                 channel_schemas.NTFY),
    "alertmanager": Case(lambda url: Receiver(name="r", kind="alertmanager", url=url), "",
                         channel_schemas.ALERTMANAGER, "/hook/api/v2/alerts"),
}  # fmt: skip


@pytest.fixture
def web():
    made = Web()
    with serving(made.server):
        yield made


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", ["opened", "escalated", "resolved"])
def test_a_receiver_gets_what_its_documentation_says(name: str, step: str, web: Web) -> None:
    case = CASES[name]
    state = "resolved" if step == "resolved" else "open"
    delivery = notice(step, alert(1, state=state), alert(2, state=state, device=None))
    CHANNELS[name].send(case.receiver(web.url), case.secret.encode(), delivery)
    assert web.got
    for path, headers, body in web.got:
        assert (path, headers["Content-Type"]) == (case.path, "application/json")
        jsonschema_rs.validate(case.schema, json.loads(body))


@pytest.mark.parametrize("name", ["slack", "teams", "ntfy"])
@pytest.mark.parametrize("body", [
    messages.digest([alert()], {"opened": 1, "resolved": 0}, AT),
    messages.digest([], {}, AT),
    messages.retrain("digits", [alert()], AT - 3600, AT),
    messages.test("test delivery, asked for by ada", AT),
])  # fmt: skip
def test_what_is_no_alert_fits_as_well(name: str, body: bytes, web: Web) -> None:
    case = CASES[name]
    CHANNELS[name].send(case.receiver(web.url), b"", Outgoing("a1", body, AT, ""))
    jsonschema_rs.validate(case.schema, json.loads(web.got[0][2]))


HOSTILE = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("<>&|@*_[]()`:\n"),
    min_size=1, max_size=2000,
)  # fmt: skip


@given(title=HOSTILE, count=st.integers(1, 40), device=st.text(min_size=1, max_size=64))
def test_no_name_breaks_a_message_or_makes_it_too_long(title: str, count: int, device: str) -> None:
    delivery = notice("opened", *(alert(n, title=title, device=device) for n in range(count)))
    jsonschema_rs.validate(channel_schemas.SLACK, json.loads(slack.body_of(delivery)))
    card = teams.body_of(delivery)
    jsonschema_rs.validate(channel_schemas.TEAMS, json.loads(card))
    assert len(card) < channel_schemas.TEAMS_BYTES_MAX
    for body in pagerduty.bodies_of(delivery, KEY):
        jsonschema_rs.validate(channel_schemas.PAGERDUTY, json.loads(body))
    pushed = json.loads(ntfy.body_of(delivery, "t"))
    jsonschema_rs.validate(channel_schemas.NTFY, pushed)
    assert len(pushed["message"].encode()) <= channel_schemas.NTFY_MESSAGE_BYTES_MAX


def test_a_name_calls_no_channel_and_makes_no_link_in_slack() -> None:
    sent = json.loads(slack.body_of(notice("opened", alert(title="<!channel> <http://x|y> a&b"))))
    section = sent["blocks"][1]["text"]["text"]
    assert "<!" not in section
    assert "&lt;!channel&gt; &lt;http://x|y&gt; a&amp;b" in section
    assert "<!" not in sent["text"]


def test_many_alerts_are_some_lines_and_how_many_more() -> None:
    card = json.loads(teams.body_of(notice("opened", *map(alert, range(LINES_MAX + 5)))))
    lines = [block["inlines"][0]["text"] for block in card["attachments"][0]["content"]["body"]]
    assert len(lines) == 1 + LINES_MAX + 1
    assert lines[-1] == "and 5 more"


def test_pagerduty_has_each_alert_as_one_incident_from_its_opening_to_its_end() -> None:
    def events(step: str, state: str) -> list[dict[str, Any]]:
        delivery = notice(step, alert(1, state=state), alert(2, state=state))
        return [json.loads(body) for body in pagerduty.bodies_of(delivery, KEY)]

    opened, escalated = events("opened", "open"), events("escalated", "acknowledged")
    resolved = events("resolved", "resolved")
    keys = [[event["dedup_key"] for event in some] for some in (opened, escalated, resolved)]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 2
    assert [some[0]["event_action"] for some in (opened, escalated, resolved)] == [
        "trigger", "acknowledge", "resolve"
    ]  # fmt: skip
    later = json.loads(pagerduty.bodies_of(notice("opened", alert(1, opened=AT)), KEY)[0])
    assert later["dedup_key"] not in keys[0]


def test_ntfy_sends_its_access_token_and_a_link(web: Web) -> None:
    receiver = Receiver(name="r", kind="ntfy", url=web.url, topic="t", secret_file="ntfy.token")
    CHANNELS["ntfy"].send(receiver, b"tk_abc", notice())
    _, headers, body = web.got[0]
    assert headers["Authorization"] == "Bearer tk_abc"
    assert json.loads(body)["click"] == f"{HUB}/inbox"


@pytest.mark.parametrize("name", ["slack", "teams"])
def test_an_address_that_is_a_secret_stands_in_a_file_and_in_no_fault(
    name: str, web: Web, tmp_path
) -> None:
    receiver = Receiver(name="r", kind=name, secret_file="hook.url")
    (tmp_path / "hook.url").write_text(f"{web.url}/T000/B000/XXXX\n")
    store = open_store(tmp_path)
    WebhookSender(store, Alerts(receivers=(receiver,)), tmp_path, Sealing(tmp_path))
    store.close()
    web.answers = [404]
    with pytest.raises(posting.DeliveryRefused) as refused:
        CHANNELS[name].send(receiver, f"{web.url}/T000".encode(), notice())
    assert str(refused.value) == "127.0.0.1 answered 404"


def test_a_file_that_names_no_web_address_is_refused_and_nothing_is_opened(tmp_path) -> None:
    receiver = Receiver(name="r", kind="slack", secret_file="hook.url")
    for wrong in (f"file://{tmp_path}/x", "ftp://x/y", "hooks.slack.com/x"):
        with pytest.raises(posting.DeliveryRefused):
            CHANNELS["slack"].send(receiver, wrong.encode(), notice())


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({"kind": "slack"}, "needs a `secret_file`"),
        ({"kind": "slack", "url": "https://x", "secret_file": "f"}, "or else a `url`"),
        ({"kind": "teams"}, "needs a `secret_file`"),
        ({"kind": "pagerduty"}, "it holds the integration key"),
        ({"kind": "pagerduty", "secret_file": "f", "on": ("digest",)}, "it takes alerts alone"),
        ({"kind": "ntfy", "topic": "t"}, "needs a `url`"),
        ({"kind": "ntfy", "url": "https://ntfy.sh"}, "needs a `topic`"),
    ],
)
def test_a_channel_that_could_not_work_is_refused_at_the_start(fields, lacking, tmp_path) -> None:
    settings = msgspec.convert({"receivers": [{"name": "r", **fields}]}, Alerts)
    store = open_store(tmp_path)
    with pytest.raises(ConfigError, match=lacking):
        WebhookSender(store, settings, tmp_path, Sealing(tmp_path))
    store.close()
