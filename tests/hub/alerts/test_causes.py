"""A drift alert carries its cause, and `muster drift explain` tells it."""

from muster_client.commands.drift import explained
from muster_hub.alerts import reading
from muster_hub.alerts.causes import drift_conditions
from muster_hub.storage.models import Alert, DriftState

FINDING = {"statistic": "location", "value": -3.2, "limit": 2.5, "effect": 0.4, "n": 300,
           "direction": "down", "status": "calibrated", "since": 1000.0}  # fmt: skip


def state(device: str, *, drifts: bool = False, manifest: str = "ab") -> DriftState:
    view = {"model": "digits", "version": "1", "drifting": ["brightness"] if drifts else [],
            "findings": {"brightness": FINDING} if drifts else {}}  # fmt: skip
    return DriftState(device=device, manifest=manifest, state=b"", view=view, updated=0.0)


def sites(**devices: str) -> dict[str, dict[str, str]]:
    return {name: {"site": site} for name, site in devices.items()}


def test_one_device_that_drifts_alone_is_told_as_its_sensor():
    labels = sites(a="berlin", b="berlin", c="rome")
    (condition,) = drift_conditions([state("a", drifts=True), state("b"), state("c")], labels)
    assert condition.detail["cause"] == "sensor"
    assert condition.detail["site"] == "berlin"
    assert condition.detail["findings"]["brightness"] == FINDING | {
        "cause": "sensor",
        "company": {"group_along": 0, "group_peers": 1, "others_along": 0, "others_peers": 1},
    }


def test_a_site_that_drifts_together_is_told_as_its_process():
    labels = sites(a="berlin", b="berlin", c="rome", d="rome")
    states = [state("a", drifts=True), state("b", drifts=True), state("c"), state("d")]
    assert {condition.detail["cause"] for condition in drift_conditions(states, labels)} == {
        "process"
    }


def test_devices_of_another_version_are_no_peers():
    labels = sites(a="berlin", b="berlin", c="rome")
    states = [state("a", drifts=True), state("b", manifest="cd"), state("c", manifest="cd")]
    (condition,) = drift_conditions(states, labels)
    assert condition.detail["cause"] == "unknown"


def test_an_alert_is_explained_in_words():
    labels = sites(a="berlin", b="berlin", c="rome")
    (condition,) = drift_conditions([state("a", drifts=True), state("b"), state("c")], labels)
    item = reading.alert(
        Alert(
            id=1, key=condition.key, kind=condition.kind, severity=condition.severity,
            state="open", opened=1.0, updated=1.0, title=condition.title, detail=condition.detail,
        )
    )  # fmt: skip
    said = "\n".join(str(part) for part in explained(item))
    assert "brightness: location down by 3.2 (limit 2.5) against the device's own past" in said
    assert "0 of 1 peers of its site and 0 of 1 elsewhere go along: sensor" in said
    assert "check its sensor" in said
