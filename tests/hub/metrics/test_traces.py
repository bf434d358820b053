"""One trace from a rollout's start to the report of each device, at a test's own collector."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from sqlmodel import select

from muster_agent.app.facts import UNDERSTANDS
from muster_hub.alerts import posting
from muster_hub.metrics.tracer import Tracer
from muster_hub.mqtt.commit import commit
from muster_hub.mqtt.inbound import read
from muster_hub.rollouts.tracing import Traces
from muster_hub.storage import models
from muster_protocol.wire import topics
from support.collector import spans
from support.hub_engine import SLOT, Plant
from support.hub_store import batch, event
from support.web import Web, serving

KEY = b"k" * 32
KNOWS = {"facts": {"understands": list(UNDERSTANDS)}}


@pytest.fixture
def web():
    made = Web()
    with serving(made.server):
        yield made


class Traced(Plant):
    """A plant whose rollouts are traced to a collector."""

    def __init__(self, directory: Path, web: Web, *devices: str, share: float = 1.0) -> None:
        self.traces = Traces(KEY, share)
        super().__init__(directory, *devices, trace=self.traces.parent)
        self.tracer = Tracer(
            self.store, self.traces, web.url, "https://hub.example", now=lambda: self.now
        )
        self.tracer.send_due()

    def published(self, seconds: float = 2.0) -> None:
        """The broker takes what waits."""
        self.now += seconds
        with self.store.write() as session:
            for row in session.exec(select(models.OutboxMessage)):
                row.published_at = row.published_at or self.now

    def hear(self, device: str, sequence: int, **fields: object) -> None:
        """An event of a device's update arrives."""
        slot = self.directive(device).slots[SLOT]
        said = {
            "slot": SLOT, "model": "digits", "version": slot.champion.version,
            "manifest": slot.champion.manifest, "trace": slot.traceparent or "",
        } | fields  # fmt: skip
        payload = batch({sequence: event(**said)})
        message = read(topics.up(device, "event"), payload, self.now)
        with self.store.write() as session:
            commit(session, [message], self.now)


def test_one_trace_spans_start_directive_publish_and_each_step_on_the_device(
    tmp_path: Path, web: Web
) -> None:
    plant = Traced(tmp_path, web, "cam-1")
    plant.publish("1")
    plant.change("cam-1", report=KNOWS)
    number = plant.start("1")
    plant.tick()
    plant.published()
    plant.now += 60
    took = {"fetching_seconds": 30.0, "verifying_seconds": 2.0, "starting_seconds": 4.0}
    plant.hear("cam-1", 1, kind="update", state="probation", values=took)
    plant.now += 20
    plant.hear("cam-1", 2, kind="update", state="committed", values={"probation_seconds": 20.0})
    plant.tracer.send_due()

    found = {span["name"]: span for span in spans(web)}
    assert {span["traceId"] for span in found.values()} == {plant.traces.trace(number)}
    root = found["rollout start"]
    assert "parentSpanId" not in root
    assert set(found) >= {
        "rollout start", "directive publish", "device update", "device fetching",
        "device verifying", "device starting", "device probation", "report received",
    }  # fmt: skip
    assert found["directive publish"]["parentSpanId"] == root["spanId"]
    assert found["device update"]["parentSpanId"] == root["spanId"]
    assert found["device fetching"]["service"] == "muster-agent"
    length = {
        name: (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9
        for name, span in found.items()
    }
    assert length["directive publish"] == pytest.approx(2.0)
    assert length["device fetching"] == pytest.approx(30.0)
    assert (
        found["device verifying"]["startTimeUnixNano"]
        == (found["device fetching"]["endTimeUnixNano"])
    )
    ids = [span["spanId"] for span in spans(web)]
    assert len(ids) == len(set(ids))
    assert {span.get("parentSpanId", root["spanId"]) for span in spans(web)} <= set(ids)
    plant.close()


def test_a_refusal_is_a_span_that_failed_and_says_why(tmp_path: Path, web: Web) -> None:
    plant = Traced(tmp_path, web, "cam-1")
    plant.publish("1")
    plant.change("cam-1", report=KNOWS)
    plant.start("1")
    plant.tick()
    plant.hear("cam-1", 1, kind="refused", refusal="golden_mismatch", detail="output 3",
               state="failed")  # fmt: skip
    plant.tracer.send_due()
    (failed,) = [span for span in spans(web) if span["name"] == "device refused"]
    assert failed["status"] == {"code": 2, "message": "golden_mismatch: output 3"}
    plant.close()


def test_an_agent_that_would_refuse_the_field_is_not_told_of_it(tmp_path: Path, web: Web) -> None:
    plant = Traced(tmp_path, web, "new", "old")
    plant.publish("1")
    plant.change("new", report=KNOWS)
    plant.change("old", report={"facts": {"understands": ["attempt", "drift"]}})
    number = plant.start("1")
    plant.tick()
    assert plant.directive("new").slots[SLOT].traceparent == plant.traces.parent(number)
    assert plant.directive("old").slots[SLOT].traceparent is UNSET
    plant.close()


def test_a_collector_that_is_away_gets_all_of_it_once_it_is_back(tmp_path: Path, web: Web) -> None:
    plant = Traced(tmp_path, web, "cam-1")
    plant.publish("1")
    plant.change("cam-1", report=KNOWS)
    plant.start("1")
    plant.tick()
    plant.published()
    web.answers = [503]
    with pytest.raises(posting.DeliveryRefused):
        plant.tracer.send_due()
    web.got.clear()
    assert plant.tracer.send_due() >= 2
    assert {"rollout start", "directive publish"} <= {span["name"] for span in spans(web)}
    assert plant.tracer.send_due() == 0
    plant.close()


def test_what_a_device_makes_up_of_a_trace_is_left_out(tmp_path: Path, web: Web) -> None:
    plant = Traced(tmp_path, web, "cam-1")
    plant.publish("1")
    plant.change("cam-1", report=KNOWS)
    plant.start("1")
    plant.tick()
    plant.tracer.send_due()
    with plant.store.write() as session:
        for wrong in ("x", 7, None, "00-" + "g" * 32 + "-" + "0" * 16 + "-01"):
            session.add(models.EventRow(device="cam-1", kind="update", received=plant.now,
                                        data={"trace": wrong}))  # fmt: skip
    assert plant.tracer.send_due() == 0
    plant.close()


@given(st.binary(min_size=16, max_size=64), st.integers(1, 2**40), st.floats(0, 1))
def test_a_rollout_is_traced_wholly_or_not_at_all_by_the_same_name_everywhere(
    key: bytes, rollout: int, share: float
) -> None:
    here, there = Traces.of(key, share), Traces.of(key, share)
    assert here.trace(rollout) == there.trace(rollout)
    assert bool(here.trace(rollout)) == bool(here.parent(rollout))
    assert Traces.of(key, 1.0).trace(rollout)
    assert not Traces.of(key, 0.0).trace(rollout)
