"""Pages of the fleet and of a device: counts that choose, search, what waits, who sees what."""

import re

import pytest

from muster_hub.fleet import feed_watching
from muster_hub.storage.models import Device
from muster_hub.storage.telemetry import EventRow
from support.console_kit import add_devices, counted, report, signed_in, token
from support.hub_kit import API, Kit, open_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("console"))
    add_devices(made, [f"cam-{number:04}" for number in range(10)])
    add_devices(made, ["waits"], running="1", wanted="2", report=report(
        "1", now=made.clock(), state="staged", waiting_for="permit: budget of line=2"
    ))  # fmt: skip
    add_devices(made, ["away"], online=False)
    add_devices(made, ["new"], approved=False, report=None)
    yield made
    made.close()


@pytest.mark.parametrize(
    "path", ["/", "/devices/cam-0001", "/delivery", "/drift", "/bulk?act=retry"]
)
def test_a_page_takes_as_many_statements_for_a_thousand_devices_as_for_ten(
    path: str, tmp_path
) -> None:
    made = open_kit(tmp_path)
    try:
        client = signed_in(made)
        taken = []
        for first, count in ((0, 10), (10, 990)):
            add_devices(made, [f"cam-{first + number:04}" for number in range(count)])
            with counted(made.hub.store) as seen:
                assert client.get(path).status_code == 200
            taken.append(len(seen.texts))
        assert taken[0] == taken[1] <= 20, seen.texts
    finally:
        made.close()


def test_a_file_of_the_console_is_not_sent_twice(kit: Kit) -> None:
    client = signed_in(kit)
    tag = client.get("/static/console.css").headers["etag"]
    again = client.get("/static/console.css", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/static/none").status_code == 404


def test_the_fleet_s_counts_choose_and_add_up(kit: Kit) -> None:
    client = signed_in(kit)
    text = client.get("/").text
    counts = dict(re.findall(r'state=(\w+)&amp;"[^>]*><b>(\d+)</b>', text))
    assert counts == {"converged": "10", "waiting": "1", "offline": "1", "awaiting_approval": "1"}
    chosen = client.get("/?state=waiting").text
    assert "1 device waiting" in chosen
    assert "permit: budget of line=2" in chosen
    assert "cam-0001" not in chosen


def test_what_waits_is_said_with_who_has_to_act(kit: Kit) -> None:
    text = re.sub(r"<[^>]+>|\s+", " ", signed_in(kit).get("/").text)
    assert re.search(r"devices +wait for +permit +1", text)
    assert re.search(r"an operator +to approve new devices +1", text)


@pytest.mark.parametrize(
    ("search", "expected"),
    [("cam-0003", {"cam-0003"}), ("site=oslo,line=1", {"cam-0001", "cam-0007"}), ("nobody", set())],
)
def test_search_is_by_a_part_of_a_name_or_by_selector(kit: Kit, search, expected) -> None:
    text = signed_in(kit).get("/", params={"q": search}).text
    assert set(re.findall(r"devices/([a-z0-9-]+)", text)) == expected


def test_a_selector_that_can_not_be_read_is_said_and_the_page_still_stands(kit: Kit) -> None:
    answer = signed_in(kit).get("/", params={"q": "site=(("})
    assert answer.status_code == 200
    assert "selector: expected" in answer.text


def test_devices_come_page_by_page(tmp_path) -> None:
    made = open_kit(tmp_path)
    try:
        add_devices(made, [f"cam-{number:03}" for number in range(120)])
        client = signed_in(made)
        seen, path = [], "/"
        for _ in range(3):
            text = client.get(path).text
            seen += re.findall(r"devices/(cam-\d+)", text)
            following = re.search(r'rel="next" href="\./([^"]+)"', text)
            path = "/" + following[1].replace("&amp;", "&") if following else ""
        assert seen == [f"cam-{number:03}" for number in range(120)]
        assert path == ""
    finally:
        made.close()


def test_a_device_shows_what_it_proves_against_what_it_should_run(kit: Kit) -> None:
    text = re.sub(r"<[^>]+>|\s+", " ", signed_in(kit).get("/devices/waits").text)
    assert re.search(r"Wanted +digits +2", text)
    assert re.search(r"Proved +nothing +not yet", text)
    assert re.search(r"Said +digits +1", text)
    assert re.search(r"Waits for +permit: budget of line=2", text)


def test_a_device_is_asked_what_is_wrong_there_and_its_page_shows_the_answer(tmp_path) -> None:
    kit = open_kit(tmp_path)
    try:
        said = report("1", now=kit.clock())
        said["facts"]["understands"] = ["diagnoses"]
        said["slots"]["vision"]["feed"] = "camera: no picture for 90 s"
        add_devices(kit, ["press-7"], report=said)
        add_devices(kit, ["old"])
        client = signed_in(kit, "operator")
        assert "camera: no picture for 90 s" in client.get("/devices/press-7").text
        assert client.post("/devices/old/diagnose").status_code == 409
        assert client.post("/devices/press-7/diagnose").status_code == 303
        assert "has not answered yet" in client.get("/devices/press-7").text
        row = EventRow(device="press-7", kind="diagnosis", received=kit.clock())
        row.detail, row.data = "fail broker: no <answer>", {"values": {"request": 1.0}}
        with kit.hub.store.write() as session:
            session.add(row)
        text = client.get("/devices/press-7").text
        assert "no &lt;answer&gt;" in text
        assert "has not answered yet" not in text
        events = text[text.index("events-head") : text.index("diagnosis-head")]
        assert "no &lt;answer&gt;" not in events
    finally:
        kit.close()


def test_the_feeds_of_a_device_are_watched_from_its_page_and_each_has_one(tmp_path) -> None:
    kit = open_kit(tmp_path)
    try:
        said = report("1", now=kit.clock())
        said["facts"]["understands"] = ["feed_watches"]
        add_devices(kit, ["press-7"], report=said)
        add_devices(kit, ["old"])
        client = signed_in(kit, "operator")
        assert client.post("/devices/old/feeds").status_code == 409
        assert client.post("/devices/press-7/feeds").status_code == 303
        assert "has not told yet" in client.get("/devices/press-7").text
        assert "told of no feed of this name" in client.get("/devices/press-7/feeds/press").text
        signal = {"feature": "flow", "signal": "flow", "value": 2.5, "unit": "m3/<h>",
                  "quality": "bad", "reason": "stale", "age_seconds": 9.0}  # fmt: skip
        feeds = {"press": {"slot": "vision", "signals": [signal]}}
        with kit.hub.store.write() as session:
            row = session.get(Device, "press-7")
            row.feeds = feed_watching.kept(None, feeds, kit.clock())
            session.add(row)
        assert "feeds/press" in client.get("/devices/press-7").text
        page = client.get("/devices/press-7/feeds/press").text
        assert 'data-quiet="4000"' in page
        text = re.sub(r"<[^>]+>|\s+", " ", page)
        assert re.search(r"flow +2.5 +m3/&lt;h&gt; +bad: stale +9 s", text)
        who = {"Authorization": f"Bearer {token(kit, name='script')}"}
        answer = kit.http.get(f"{API}/devices/press-7/feeds", headers=who).json()
        assert (answer["asked"], answer["live"]) == (1, True)
        assert answer["feeds"]["press"]["signals"][0]["quality"] == "bad"
    finally:
        kit.close()


def test_what_the_hub_sets_of_feeds_stands_on_a_page_with_who_lacks_a_label(tmp_path) -> None:
    kit = open_kit(tmp_path)
    try:
        add_devices(kit, ["press-7", "press-8"], labels={"line": "2"})
        client = signed_in(kit, "operator")
        assert "Nothing is set" in client.get("/feeds").text
        values = {"sources.plc.host": "{label.plc}", "sources.plc.port": 502}
        ask = {"selector": "line=2", "feed": "press", "settings": values}
        headers = kit.as_("operator")
        path = f"{API}/feed-settings/addresses"
        planned = kit.http.post(f"{path}/plan", json=ask, headers=headers).json()
        assert (planned["devices"], planned["lacking"]) == (2, {"press-7": "plc", "press-8": "plc"})
        assert "Nothing is set" in client.get("/feeds").text
        assert kit.http.put(path, json=ask, headers=headers).status_code == 200
        text = " ".join(re.sub(r"<[^>]+>", " ", client.get("/feeds").text).split())
        said = "press line=2 sources.plc.host = {label.plc} sources.plc.port = 502 2 press-7 : plc"
        assert f"addresses {said} , press-8 : plc just now by token:a-operator" in text
    finally:
        kit.close()


def test_a_device_that_has_never_reported_has_a_page(kit: Kit) -> None:
    text = signed_in(kit).get("/devices/new").text
    assert "awaiting approval" in text
    assert "none yet" in text


def test_who_is_limited_to_a_site_sees_only_that(kit: Kit) -> None:
    client = signed_in(kit, "viewer", selector="site=oslo")
    text = client.get("/").text
    assert "cam-0001" in text
    assert "cam-0002" not in text
    assert client.get("/devices/cam-0002").status_code == 403
