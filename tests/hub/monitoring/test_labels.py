"""Labels count where an operator looks: right, wrong, how far off, and those that met nothing."""

from dataclasses import replace

import pytest

from muster_hub.access.scope import EVERYTHING
from muster_hub.monitoring import reading
from muster_hub.monitoring.labels import LabelSums, by_version
from muster_hub.storage.models import SummaryWindow
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import LabelErrors, Tally
from support.hub_store import open_store
from support.summaries import window


@pytest.fixture
def store(tmp_path, database):
    made = open_store(tmp_path, "cam-1", "cam-2", url=database)
    yield made
    made.close()


def sent(store, device, number, *, version="1", fault="", **fields):
    plain = {"version": version, "label_errors": LabelErrors()}
    item = replace(window(10, seed=number), **plain | fields)
    row = SummaryWindow(
        device=device, epoch="00", sequence=number, model="press", version=version,
        manifest=item.manifest, start=float(number), seconds=300.0, n=10, received=float(number),
        payload=b"no summary" if fault else summary_wire.encode(item), fault=fault,
    )  # fmt: skip
    with store.write() as session:
        session.add(row)


def test_labels_of_every_kind_are_added_up_by_version(store):
    sent(store, "cam-1", 1, counts=Tally(labels_right=3, labels_wrong=1, labels_unmatched=2))
    sent(store, "cam-1", 2, counts=Tally(labels_right=1, labels_unmatched=1))
    sent(store, "cam-1", 3, version="2", counts=Tally(), label_errors=LabelErrors(2, 3.0, 5.0))
    sent(store, "cam-1", 4, counts=Tally(labels_right=90), fault="damaged")
    sent(store, "cam-2", 5, counts=Tally(labels_wrong=50))
    with store.read() as session:
        shown = reading.counts(session, EVERYTHING, "cam-1")["label_accuracy"]
    assert shown == {
        "press/1": {
            "labels": 5, "accuracy": 0.8, "unmatched": 3,
            "mean_absolute_error": None, "root_mean_square_error": None,
        },
        "press/2": {
            "labels": 2, "accuracy": None, "unmatched": 0,
            "mean_absolute_error": 1.5, "root_mean_square_error": 2.5**0.5,
        },
    }  # fmt: skip


def test_a_device_without_labels_says_so(store):
    sent(store, "cam-1", 1, counts=Tally(inferences=10))
    with store.read() as session:
        assert by_version(session, EVERYTHING, "cam-1") == {"press/1": LabelSums()}
