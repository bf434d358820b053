"""One act on many devices: looked at with what it reaches, done one by one, refused when stale."""

import re

import pytest
from sqlmodel import select

from muster_hub.console.bulk import DEVICES_MAX, BulkAsk, reach
from muster_hub.errors import Invalid
from muster_hub.fleet.assignments import AssignedRelease, Release
from muster_hub.fleet.overview import Glimpse
from muster_hub.storage import models
from muster_protocol.wire import selectors
from support.console_kit import add_devices, signed_in
from support.hub_kit import Kit, open_kit


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    add_devices(made, ["cam-1", "cam-2", "cam-3", "cam-4"])
    add_devices(made, ["new"], approved=False, labels={"site": "rome"})
    yield made
    made.close()


def tag(page: str) -> str:
    return re.search(r'name="tag" value="(\w+)"', page)[1]


def labels(kit: Kit) -> dict[str, dict[str, str]]:
    with kit.hub.store.read() as session:
        return {row.id: row.labels for row in session.exec(select(models.Device))}


def test_a_label_is_set_on_all_that_a_selector_names_after_a_look(kit: Kit) -> None:
    client = signed_in(kit, "operator")
    ask = {"q": "site=berlin", "act": "label", "key": "shift", "value": "night"}
    page = client.get("/bulk", params=ask).text
    assert "<b>2 devices</b>" in page
    assert "shift" not in str(labels(kit))
    done = client.post("/bulk/label", data=ask | {"tag": tag(page)})
    assert "done on 2 devices" in done.text
    assert {name for name, found in labels(kit).items() if found.get("shift") == "night"} == {
        "cam-1", "cam-3"
    }  # fmt: skip
    with kit.hub.store.read() as session:
        rows = session.exec(select(models.Audit).where(models.Audit.action == "device.relabel"))
        assert [row.subject for row in rows] == ["cam-1", "cam-3"]


def test_what_changed_since_the_look_stops_it_and_nothing_is_done(kit: Kit) -> None:
    client = signed_in(kit, "operator")
    ask = {"q": "site=berlin", "act": "label", "key": "shift", "value": "night"}
    seen = tag(client.get("/bulk", params=ask).text)
    add_devices(kit, ["cam-5"], labels={"site": "berlin"})
    before = labels(kit)
    answer = client.post("/bulk/label", data=ask | {"tag": seen})
    assert answer.status_code == 409
    assert "has changed since you looked" in answer.text
    assert labels(kit) == before


def test_revoking_many_takes_their_number_typed(kit: Kit) -> None:
    client = signed_in(kit, "operator")
    ask = {"q": "site=oslo", "act": "revoke"}
    seen = tag(client.get("/bulk", params=ask).text)
    for count in ("", "1", "200"):
        refused = client.post("/bulk/revoke", data=ask | {"tag": seen, "count": count or "0"})
        assert refused.status_code == 422
        assert "nothing was done" in refused.text
    done = client.post("/bulk/revoke", data=ask | {"tag": seen, "count": "2"})
    assert "done on 2 devices" in done.text
    with kit.hub.store.read() as session:
        revoked = session.exec(select(models.Device.id).where(models.Device.revoked)).all()
    assert sorted(revoked) == ["cam-2", "cam-4"]


def test_what_can_not_be_done_on_one_device_is_said_and_the_rest_goes_on(kit: Kit) -> None:
    client = signed_in(kit, "operator")
    with kit.hub.store.write() as session:
        for name in ("cam-1", "cam-2"):
            row = session.get(models.Device, name)
            slots = row.report["slots"] | {"vision": row.report["slots"]["vision"]
                                           | {"update": {"state": "failed"}}}  # fmt: skip
            facts = row.report["facts"] | ({"understands": ["attempt"]} if name == "cam-1" else {})
            row.report = row.report | {"slots": slots, "facts": facts}
    ask = {"q": "", "act": "retry"}
    page = client.get("/bulk", params=ask).text
    assert "<b>2 devices</b>" in page
    done = client.post("/bulk/retry", data=ask | {"tag": tag(page)})
    assert "done on 1 device" in done.text
    assert "Not done on 1 device" in done.text
    assert "cam-2" in done.text


def test_new_devices_are_approved_together(kit: Kit) -> None:
    client = signed_in(kit, "operator")
    ask = {"q": "site=rome", "act": "approve"}
    seen = tag(client.get("/bulk", params=ask).text)
    assert "done on 1 device" in client.post("/bulk/approve", data=ask | {"tag": seen}).text
    with kit.hub.store.read() as session:
        assert session.get(models.Device, "new").approved


def test_who_is_limited_to_a_site_reaches_no_other(kit: Kit) -> None:
    client = signed_in(kit, "operator", "sam", selector="site=berlin")
    ask = {"q": "line in (0,1,2)", "act": "label", "key": "x", "value": "1"}
    page = client.get("/bulk", params=ask).text
    assert "cam-2" not in page
    assert "<b>2 devices</b>" in page
    beyond = client.post("/bulk/label", data=ask | {"tag": tag(page)})
    assert beyond.status_code == 403
    assert not any("x" in found for found in labels(kit).values())


def test_a_viewer_is_offered_nothing_and_odd_asks_are_answered_in_words(kit: Kit) -> None:
    viewer = signed_in(kit, "viewer", "eve")
    assert "<option" not in viewer.get("/bulk").text
    client = signed_in(kit, "operator")
    for ask, words in (
        ({"q": "cam"}, "A name chooses no devices here"),
        ({"q": "site=(", "act": "retry"}, "alert"),
        ({"act": "label"}, "Name the label."),
        ({"act": "label", "key": "a b", "value": "1"}, "use 1 to"),
        ({"act": "rebaseline"}, "Name the model."),
    ):
        answer = client.get("/bulk", params=ask)
        assert answer.status_code == 200
        assert words in answer.text


def glimpse(name: str, **found: str) -> Glimpse:
    return Glimpse(name, found, "converged", "", (("main", "digits", "1"),), (), None)


def test_a_look_says_which_other_release_a_new_label_would_bring() -> None:
    def assigned(number: int, selector: str, version: str) -> AssignedRelease:
        release = Release(model="digits", version=version, manifest=version, manifest_bytes=2)
        return AssignedRelease(
            id=number, slot="main", selector=selectors.parse(selector), release=release,
            precedence=number,
        )  # fmt: skip

    held = [assigned(1, "line=a", "1"), assigned(2, "shift=night", "2")]
    devices = [glimpse("a", line="a"), glimpse("b", line="a", shift="night"), glimpse("c")]
    found = reach(BulkAsk("label", "shift", "night"), devices, held)
    assert (found.swaps, found.lost, found.changed) == ([("main", "digits", "2", 2)], 0, 2)
    assert reach(BulkAsk("label", "line", ""), devices, held).lost == 1


def test_more_devices_than_a_page_can_wait_for_are_refused() -> None:
    many = [glimpse(str(number)) for number in range(DEVICES_MAX + 1)]
    with pytest.raises(Invalid, match="narrow it"):
        reach(BulkAsk("retry"), many, [])
