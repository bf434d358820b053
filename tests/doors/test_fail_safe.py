"""Whatever fails, the signed fallback and its quality reach every kind of sink."""

from typing import get_args

import pytest

from muster_agent.base.feed_settings import SinkKind
from support.fail_safe import COUNTERPARTS, FAULTS, Fault, Plant

pytestmark = [pytest.mark.doors, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    with Plant(tmp_path_factory.mktemp("plant")) as plant:
        yield plant


def test_every_kind_of_sink_has_a_counterpart_here():
    assert set(COUNTERPARTS) == set(get_args(SinkKind))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fallback_and_its_quality_reach_every_sink_and_then_the_model_again(
    plant: Plant, fault: Fault
):
    found = plant.suffer(fault)
    assert set(found) == set(COUNTERPARTS)


def test_a_feed_that_ends_in_order_tells_every_sink_that_nothing_is_decided(plant: Plant):
    before = plant.end_feed()
    for kind, sink in plant.sinks.items():
        sink.since(before[kind], sink.undecided)
    assert plant.silent()
    plant.begin_feed()


def test_of_a_feed_that_is_killed_brokers_tell_and_heartbeats_stand_still(plant: Plant):
    before = plant.kill_feed()
    for kind in ("mqtt", "sparkplug"):
        plant.sinks[kind].since(before[kind], plant.sinks[kind].undecided)
    assert plant.silent()
    last = {kind: sink.seen[-1] for kind, sink in plant.sinks.items()}
    assert {kind for kind, seen in last.items() if seen.grade == "good"} == {
        "file", "webhook", "modbus", "opcua",
    }  # fmt: skip
    plant.begin_feed()
