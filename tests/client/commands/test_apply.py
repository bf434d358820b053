"""`muster apply`: a file says what the fleet should be, and the hub becomes that, once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, OperatorError
from muster_client.resources import fleet as fleets
from muster_client.resources import fleet_file
from muster_client.resources.fleet import Assigned, Fleet
from muster_hub.storage.models import Device, Model, Version
from support.hub_kit import Kit, open_kit

FILE = """
assignments:
  - {model: digits, version: "1", slot: vision, selector: "site=berlin"}
---
rollouts:
  - {model: digits, version: "2", slot: vision, selector: "line in (2, 1)", canary: 10%}
"""


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    with made.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        session.add_all(
            Device(id=f"cam-{n}", labels={"line": str(n)}, created=1, online=True) for n in range(3)
        )
        session.flush()
        for version in ("1", "2"):
            session.add(
                Version(
                    model="digits", version=version, manifest_sha256=f"d{version}",
                    manifest=b"{}", status="published", size_bytes=9, created=1, created_by="test",
                )
            )  # fmt: skip
    yield made
    made.close()


def muster(kit: Kit, *arguments: str, **more: Any) -> Any:
    token = kit.as_("operator")["Authorization"].removeprefix("Bearer ")
    connection = ["--hub", str(kit.http.base_url), "--token", token]
    return CliRunner().invoke(app, [*connection, *arguments], **more)


def applied(kit: Kit, file: Path, *options: str) -> dict[str, Any]:
    ended = muster(kit, "apply", "-f", str(file), "--json", *options)
    assert ended.exit_code == 0, ended.output or ended.exception
    shown: dict[str, Any] = json.loads(ended.stdout)
    return shown


def kinds(shown: dict[str, Any]) -> list[str]:
    return [change["kind"] for change in shown["changes"]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "fleet.yaml"
    made.write_text(FILE)
    return made


def test_what_a_file_asks_for_is_done_once(kit, file):
    assert kinds(applied(kit, file, "--dry-run")) == ["add", "start"]
    assert list(json.loads(muster(kit, "rollout", "list", "--json").stdout)) == []
    assert kinds(applied(kit, file, "--yes")) == ["add", "start"]
    (rollout,) = json.loads(muster(kit, "rollout", "list", "--json").stdout)
    assert (rollout["version"], rollout["state"]) == ("2", "running")
    again = applied(kit, file, "--yes")
    assert kinds(again) == ["keep", "keep"]
    assert again["applied"] is False


def test_a_difference_is_shown_and_without_a_yes_nothing_is_done(kit, file):
    applied(kit, file, "--yes")
    file.write_text(FILE.replace('version: "1"', 'version: "2"'))
    shown = muster(kit, "apply", "-f", str(file), "--dry-run", "--exit-code")
    assert shown.exit_code == Exit.REFUSED
    assert "~ assignment in vision on site=berlin: digits 1 → digits 2" in shown.stdout
    assert "1 to do." in shown.stdout
    silent = muster(kit, "apply", "-f", str(file))
    assert isinstance(silent.exception, OperatorError)
    assert "say --yes" in str(silent.exception)
    assert kinds(applied(kit, file, "--dry-run")) == ["change", "keep"]


def test_only_prune_withdraws_and_only_in_slots_the_file_names(kit, file):
    applied(kit, file, "--yes")
    for slot in ("vision", "sound"):
        asked = {"slot": slot, "selector": "site=oslo", "model": "digits", "version": "1"}
        kit.http.put("/api/v1/assignments", json=asked, headers=kit.as_("operator"))
    assert kinds(applied(kit, file, "--yes")) == ["keep", "keep"]
    shown = applied(kit, file, "--yes", "--prune")
    assert [(change["kind"], change["what"]) for change in shown["changes"]][1] == (
        "remove", "assignment in vision on site=oslo",
    )  # fmt: skip
    left = kit.http.get("/api/v1/assignments", headers=kit.as_("operator")).json()["items"]
    assert {(item["slot"], item["selector"]) for item in left} == {
        ("vision", "site=berlin"), ("sound", "site=oslo"),
    }  # fmt: skip


def test_a_rollout_that_was_aborted_is_not_started_again(kit, file):
    applied(kit, file, "--yes")
    assert muster(kit, "rollout", "abort", "1", "--yes").exit_code == 0
    shown = applied(kit, file, "--yes")
    assert kinds(shown) == ["keep", "keep"]
    assert "rollout 1 is aborted" in shown["changes"][1]["why"]


def test_what_the_hub_would_refuse_is_refused_before_anything_is_done(kit, file):
    file.write_text(FILE.replace('version: "2"', 'version: "9"'))
    ended = muster(kit, "apply", "-f", str(file), "--yes")
    assert isinstance(ended.exception, OperatorError)
    assert "version 9" in str(ended.exception)
    left = kit.http.get("/api/v1/assignments", headers=kit.as_("operator")).json()["items"]
    assert left == []


def test_an_assignment_that_the_hub_would_refuse_stops_all_the_others(kit, file):
    file.write_text(FILE + '---\nassignments: [{model: digits, version: "9", slot: other}]\n')
    ended = muster(kit, "apply", "-f", str(file), "--yes")
    assert isinstance(ended.exception, OperatorError)
    assert "no version 9" in str(ended.exception)
    assert json.loads(muster(kit, "assignment", "list", "--json").stdout) == []
    assert json.loads(muster(kit, "rollout", "list", "--json").stdout) == []


def test_a_file_comes_by_a_pipe_too_and_each_change_says_how_many_devices_it_concerns(kit):
    shown = muster(kit, "apply", "-f", "-", "--dry-run", input=FILE)
    assert "assignment in vision on site=berlin: digits 1 (0 devices)" in shown.stdout
    assert "on line in (2,1): started (2 devices)" in shown.stdout
    silent = muster(kit, "apply", "-f", "-", input=FILE)
    assert "say --yes" in str(silent.exception)
    done = muster(kit, "apply", "-f", "-", "--yes", "--json", input=FILE)
    assert kinds(json.loads(done.stdout)) == ["add", "start"]
    wrong = muster(kit, "apply", "-f", "-", input="assignment: []")
    assert "standard input: " in str(wrong.exception)


FEEDS = """
feeds:
  - name: addresses
    feed: press
    selector: "line in (2, 1)"
    settings: {sources.plc.host: "{label.plc_address}", sources.plc.port: 502}
  - {name: limits, feed: press, settings: {sinks.stop.writes.stop.at_least: 0.9}}
"""


def test_settings_of_feeds_are_made_changed_and_pruned_and_then_nothing_is_left_to_do(kit, file):
    file.write_text(FEEDS)
    shown = applied(kit, file, "--dry-run")
    assert [(change["kind"], change["devices"]) for change in shown["changes"]] == [
        ("add", 2), ("add", 3),
    ]  # fmt: skip
    assert json.loads(muster(kit, "feed", "list", "--json").stdout) == []
    applied(kit, file, "--yes")
    again = applied(kit, file, "--yes")
    assert (kinds(again), again["applied"]) == (["keep", "keep"], False)

    muster(kit, "feed", "set", "old", "press", "sources.plc.port=1")
    muster(kit, "feed", "set", "of-others", "robot", "sources.plc.port=1")
    file.write_text(FEEDS.replace("0.9", "0.8").replace('"line in (2, 1)"', "line=2"))
    changes = applied(kit, file, "--dry-run", "--prune")["changes"]
    assert [(each["kind"], each["what"], each["devices"]) for each in changes] == [
        ("change", "addresses for the feed press on line=2", 1),
        ("change", "limits for the feed press on all devices", 3),
        ("remove", "old for the feed press on all devices", None),
    ]
    assert changes[0]["was"].endswith("sources.plc.port = 502 (press on line in (2,1))")
    assert changes[1]["now"] == "sinks.stop.writes.stop.at_least = 0.8"
    applied(kit, file, "--yes", "--prune")
    left = json.loads(muster(kit, "feed", "list", "--json").stdout)
    assert {each["name"]: each["selector"] for each in left} == {
        "addresses": "line=2", "limits": "", "of-others": "",
    }  # fmt: skip


def test_settings_that_the_hub_would_refuse_stop_everything_else(kit, file):
    file.write_text(FILE + "---" + FEEDS.replace("{label.plc_address}", "{plc_address}"))
    ended = muster(kit, "apply", "-f", str(file), "--yes")
    assert isinstance(ended.exception, OperatorError)
    assert "labels are written" in str(ended.exception)
    assert json.loads(muster(kit, "assignment", "list", "--json").stdout) == []
    assert json.loads(muster(kit, "feed", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("assignments: [{model: a, version: 2}]", r"assignments\[0\].version` \(put it in quotes"),
        ("assignments: [{model: a, version: '2', site: x}]", "unknown field `site`"),
        ("assignment: []", "unknown field `assignment`"),
        ("rollouts: [{model: a}]", "missing required field `version`"),
        ("assignments: [{model: a, version: '2', selector: 'site=('}]", r"site=\("),
        ("assignments: [", "line 1"),
        ("- 3", "Expected `object`"),
        ("feeds: [{name: a, feed: press}]", "missing required field `settings`"),
        ("feeds: [{name: a, feed: press, settings: {}}]", "length >= 1"),
        (
            "feeds:\n" + 2 * "  - {name: a, feed: press, settings: {sinks.a.b: 1}}\n",
            "a is there twi",
        ),
        ("assignments:\n" + 2 * "  - {model: a, version: '2'}\n", "main, all is there twice"),
    ],
)
def test_what_a_file_has_wrong_is_named_with_its_place(text, says):
    with pytest.raises(OperatorError, match=says) as refused:
        fleet_file.parse(text, "fleet.yaml")
    assert str(refused.value).startswith("fleet.yaml: ")
    assert refused.value.code == Exit.USAGE


NAMES = st.sampled_from(["digits", "sounds"])
KEYS = st.tuples(
    st.sampled_from(["main", "vision"]), st.sampled_from(["", "site=a", "line in (1,2)"])
)
ASSIGNED = st.builds(
    Assigned, model=NAMES, version=st.sampled_from(["1", "2"]),
    window_seconds=st.sampled_from([None, 60.0]),
)  # fmt: skip
THERE = st.dictionaries(KEYS, ASSIGNED)


def stored(number: int, key: tuple[str, str], assigned: Assigned) -> dict[str, Any]:
    slot, selector = key
    return {
        "id": number, "slot": slot, "selector": selector, "model": assigned.model,
        "version": assigned.version, "precedence": number, "rollout": None,
        "window_seconds": assigned.window_seconds,
    }  # fmt: skip


@given(asked=THERE, there=THERE, prune=st.booleans())
def test_what_was_applied_leaves_nothing_to_do(asked, there, prune):
    rows = [stored(number, key, item) for number, (key, item) in enumerate(there.items(), 1)]
    wanted = tuple(
        Assigned(item.model, item.version, slot, selector, None, item.window_seconds)
        for (slot, selector), item in asked.items()
    )
    fleet = Fleet(assignments=wanted)
    after = {(row["slot"], row["selector"]): row for row in rows}
    for change in fleets.compare(fleet, rows, [], prune=prune):
        if change.kind == "remove":
            number = int(change.path.removeprefix("/assignments/"))
            after = {key: row for key, row in after.items() if row["id"] != number}
        elif change.body is not None:
            body = dict(change.body)
            key = (body["slot"], body["selector"])
            before = after.get(key, {"id": 100 + len(after), "precedence": 100, "rollout": None})
            precedence = body["precedence"] or before["precedence"]
            after[key] = {**before, **body, "precedence": precedence}
    again = fleets.compare(fleet, after.values(), [], prune=prune)
    assert {change.kind for change in again} <= {"keep"}
    assert after.keys() >= asked.keys()
    if not prune:
        assert after.keys() == asked.keys() | there.keys()
