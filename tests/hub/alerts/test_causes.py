"""A drift alert carries its cause, and `muster drift explain` tells it."""

import hypothesis.strategies as st
from hypothesis import given

from muster_client.commands.drift import explained
from muster_hub.alerts import reading
from muster_hub.alerts.causes import FINDINGS_MAX, drift_conditions
from muster_hub.monitoring import accuracy, inputs
from muster_hub.storage.models import Alert, DriftState
from muster_protocol.signals.summary import Tally

FINDING = {"statistic": "location", "value": -3.2, "limit": 2.5, "effect": 0.4, "n": 300,
           "direction": "down", "status": "calibrated", "since": 1000.0}  # fmt: skip


def state(device: str, *, drifts: bool = False, manifest: str = "ab") -> DriftState:
    view = {"model": "digits", "version": "1", "drifting": ["brightness"] if drifts else [],
            "findings": {"brightness": FINDING} if drifts else {}}  # fmt: skip
    return DriftState(device=device, manifest=manifest, state=b"", view=view, updated=0.0)


def sites(**devices: str) -> dict[str, dict[str, str]]:
    return {name: {"site": site} for name, site in devices.items()}


def test_one_device_that_drifts_alone_is_told_as_its_sensor():
    labels = sites(a="berlin", b="berlin", c="rome", d="rome")
    fleet = [state("a", drifts=True), state("b"), state("c"), state("d")]
    (condition,) = drift_conditions(fleet, labels)
    assert condition.detail["cause"] == "sensor"
    assert condition.detail["site"] == "berlin"
    assert condition.detail["findings"]["brightness"] == FINDING | {
        "cause": "sensor",
        "company": {"group_along": 0, "group_peers": 1, "others_along": 0, "others_peers": 2},
    }


def test_a_site_that_drifts_together_is_told_as_its_process():
    labels = sites(a="berlin", b="berlin", e="berlin", c="rome", d="rome")
    states = [*(state(name, drifts=True) for name in "abe"), state("c"), state("d")]
    assert {condition.detail["cause"] for condition in drift_conditions(states, labels)} == {
        "process"
    }


def test_devices_of_another_version_are_no_peers():
    labels = sites(a="berlin", b="berlin", c="rome")
    states = [state("a", drifts=True), state("b", manifest="cd"), state("c", manifest="cd")]
    (condition,) = drift_conditions(states, labels)
    assert condition.detail["cause"] == "unknown"


def test_an_alert_is_explained_in_words():
    labels = sites(a="berlin", b="berlin", c="rome", d="rome")
    fleet = [state("a", drifts=True), state("b"), state("c"), state("d")]
    (condition,) = drift_conditions(fleet, labels)
    item = reading.alert(
        Alert(
            id=1, key=condition.key, kind=condition.kind, severity=condition.severity,
            state="open", opened=1.0, updated=1.0, title=condition.title, detail=condition.detail,
        )
    )  # fmt: skip
    said = "\n".join(str(part) for part in explained(item))
    assert "brightness: location down by 3.2 (limit 2.5) against the device's own past" in said
    assert "0 of 1 peers of its site and 0 of 2 elsewhere go along: sensor" in said
    assert "check its sensor" in said


def finding(**changes: object) -> dict[str, object]:
    return FINDING | {"since": 1_700_000_000.0} | changes


def with_findings(**findings: dict[str, object]) -> DriftState:
    view = {"model": "pump", "version": "1", "drifting": sorted(findings), "findings": findings}
    return DriftState(device="pump-1", manifest="ab", state=b"", view=view, updated=0.0)


def test_each_finding_is_an_alert_in_its_own_words():
    stuck = finding(fault="stuck", before=6.0, now=6.25, since=1_700_003_600.0)
    heat = {"temperature [°C]": finding(direction="higher", before=89.5, now=92.1), "flow": stuck}
    first, second = drift_conditions([with_findings(**heat)], {})
    assert first.title == (
        "pump-1: temperature [°C] 89.5 → 92.1 °C, higher since 14 Nov 22:13 UTC, no peers to "
        "compare with"
    )
    assert "flow stands still 6 → 6.25 since 14 Nov 23:13 UTC" in second.title
    assert second.detail["cause"] == "sensor"
    assert "no longer changes" in second.detail["advice"]
    assert first.key != second.key


def test_light_that_has_changed_is_named_as_such():
    darker = {"image.brightness": finding(direction="lower", before=0.5, now=0.25)}
    (condition,) = drift_conditions([with_findings(**darker)], {})
    assert "0.5 → 0.25, lower (darker pictures: lighting) since" in condition.title
    assert "check lamps" in condition.detail["advice"]
    sharper = {
        "image.sharpness": finding(direction="lower"),
        "contrast": finding(direction="lower"),
    }
    others = drift_conditions([with_findings(**sharper)], {})
    assert not any("lighting" in each.title for each in others)


def test_a_finding_that_is_raised_anew_is_another_alert():
    (before,) = drift_conditions([with_findings(flow=finding())], {})
    (after,) = drift_conditions([with_findings(flow=finding(since=1_700_009_000.0))], {})
    assert before.key != after.key


def test_a_great_many_findings_are_a_bounded_number_of_alerts():
    many = {f"f{number:03}": finding() for number in range(300)}
    conditions = drift_conditions([with_findings(**many)], {})
    assert len(conditions) == FINDINGS_MAX + 1
    assert "280 more features" in conditions[-1].title


def test_refused_inputs_are_a_cause_of_their_own():
    known: dict[str, object] = {}
    for window in range(40):
        known = inputs.follow(known, Tally(inferences=100), window * 300.0)
    assert known["since"] is None
    known = inputs.follow(known, Tally(errors_input=113), 12_000.0)
    assert known["since"] == 12_000.0
    here = with_findings()
    here.view = here.view | {"inputs": known}
    (condition,) = drift_conditions([here], {})
    assert condition.kind == "inputs"
    assert "refused because of their input" in condition.title
    for window in range(20):
        known = inputs.follow(known, Tally(inferences=100), 13_000.0 + window)
    assert known["since"] is None


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=100))
def test_a_share_of_refusals_that_never_changes_much_raises_nothing(windows):
    known: dict[str, object] = {}
    for _ in range(50):
        known = inputs.follow(known, Tally(inferences=97, errors_input=3), 0.0)
    for asked, _ in windows:
        known = inputs.follow(known, Tally(inferences=asked, errors_input=asked // 50), 1.0)
        assert known["since"] is None


def labelled(known: dict[str, object], windows: int, wrong: int) -> dict[str, object]:
    for window in range(windows):
        known = accuracy.follow(known, 50 - wrong, wrong, window * 300.0)
    return known


def test_mistakes_that_become_more_frequent_are_an_alert_until_they_are_as_before():
    known = labelled({}, 60, wrong=2)
    assert known["since"] is None
    known = labelled(known, 30, wrong=10)
    assert known["since"] is not None
    here = with_findings()
    here.view = here.view | {"labels": known}
    (condition,) = drift_conditions([here], {})
    assert condition.kind == "accuracy"
    assert "→ 20% of its labelled answers" in condition.title
    assert labelled(known, 60, wrong=2)["since"] is None


def test_windows_without_labels_say_nothing_of_accuracy():
    known = labelled({}, 10, wrong=2)
    assert accuracy.follow(known, 0, 0, 9e9) == known
