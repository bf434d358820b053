"""An operator calls a device's new state normal: its drift ends, and the log says who did it."""

import numpy as np
import pytest
from sqlmodel import select

from muster_hub.errors import NotFound
from muster_hub.monitoring import drift_step
from muster_hub.storage import models
from muster_protocol.signals import baseline, features
from muster_protocol.signals.drift import DriftMonitor
from support.hub_kit import API, open_kit
from support.hub_store import open_store
from support.models import write_bundle
from support.summaries import MANIFEST, fitted, window


@pytest.fixture
def store(tmp_path):
    """A device whose temperature has been three standard deviations too high."""
    made = open_store(tmp_path, "cam-1")
    monitor = DriftMonitor(fitted())
    for number in range(12):
        monitor.feed(window(300, seed=number, start=300.0 * number, shift=3.0))
    drifting = sorted(monitor.drifting())
    assert "temperature" in drifting
    view = {
        "model": "press",
        "version": "1.2",
        "drifting": drifting,
        "findings": {name: {} for name in drifting},
        "calibration": monitor.status(),
        "latest": 3300.0,
    }
    with made.write() as session:
        session.add(
            models.DriftState(
                device="cam-1", manifest=MANIFEST, state=monitor.encode(), view=view, updated=1.0
            )
        )
    yield made
    made.close()


def rebaseline(store, device="cam-1", model="press"):
    with store.write() as session:
        return drift_step.rebaseline(
            session, lambda _: fitted(), device=device, model=model, by="token:ann", now=5.0
        )


def test_what_is_called_normal_drifts_no_more_until_it_moves_again(store):
    assert "temperature" in rebaseline(store)["forgotten"]
    with store.read() as session:
        kept = session.get_one(models.DriftState, ("cam-1", MANIFEST))
    assert kept.view["drifting"] == []
    assert kept.view["findings"] == {}
    assert kept.rebaselines == 1
    monitor = DriftMonitor.decode(fitted(), None, kept.state)
    for number in range(20, 40):
        monitor.feed(window(300, seed=number, start=300.0 * number, shift=3.0))
    assert "temperature" not in monitor.drifting()
    for number in range(40, 50):
        monitor.feed(window(300, seed=number, start=300.0 * number))
    assert "temperature" in monitor.drifting()


def test_who_did_it_and_what_was_forgotten_is_in_the_audit_log(store):
    rebaseline(store)
    with store.read() as session:
        (row,) = session.exec(select(models.Audit)).all()
    assert (row.actor, row.action, row.subject) == ("token:ann", "device.rebaseline", "cam-1")
    assert "temperature" in row.detail["forgotten"]


@pytest.mark.parametrize(("device", "model"), [("cam-2", "press"), ("cam-1", "other")])
def test_a_model_the_hub_does_not_follow_there_is_refused(store, device, model):
    with pytest.raises(NotFound, match="no windows"):
        rebaseline(store, device, model)
    with store.read() as session:
        assert session.exec(select(models.Audit)).all() == []


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def test_an_operator_rebaselines_by_the_api_and_the_directive_will_say_so(kit, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    trained = baseline.fit(
        {"x": np.random.default_rng(1).normal(size=(400, 4)).astype(np.float32)},
        features.elements("x", 4),
    )
    _, manifest = write_bundle(folder, trained=baseline.encode(trained))
    for file in folder.iterdir():
        kit.hub.blobs.put(file.read_bytes())
    monitor = DriftMonitor(trained)
    with kit.hub.store.write() as session:
        session.add(models.Device(id="cam-1", created=1.0))
        session.flush()
        session.add(
            models.DriftState(
                device="cam-1", manifest=manifest, state=monitor.encode(), updated=1.0,
                view={"model": "dense", "version": "1", "drifting": ["x[0]"]},
            )
        )  # fmt: skip
    path, ask = f"{API}/devices/cam-1/rebaseline", {"model": "dense"}
    assert kit.http.post(path, json=ask, headers=kit.as_("viewer")).status_code == 403
    answer = kit.http.post(path, json=ask, headers=kit.as_("operator"))
    assert answer.status_code == 200, answer.text
    assert (answer.json()["manifest"], answer.json()["version"]) == (manifest, "1")
    with kit.hub.store.read() as session:
        assert drift_step.rebaselines(session) == {("cam-1", manifest): 1}
        (row,) = session.exec(select(models.Audit).where(models.Audit.subject == "cam-1")).all()
        assert row.action == "device.rebaseline"
    missing = kit.http.post(path, json={"model": "none"}, headers=kit.as_("operator"))
    assert missing.status_code == 404
