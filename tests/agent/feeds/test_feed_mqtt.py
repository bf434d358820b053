"""A whole feed over a real Mosquitto: tags in, the model's answer or its fallback's out."""

import asyncio
import os
import signal
import socket

import numpy as np
import pytest

from muster_agent.base.feed_settings import MqttSource
from muster_agent.feeds.mqtt.client import PlantConnection
from muster_agent.feeds.sources.base import FeedPlace
from support import models
from support.fed import FedSlot, PlantBroker, PlantClient

pytestmark = pytest.mark.system

FEED = """
[feeds.press]
slot = "slot"
deadline_seconds = 1.0
[feeds.press.sources.uns]
kind = "mqtt"
host = "127.0.0.1"
port = {port}
[feeds.press.sources.uns.tags]
flow = {{ topic = "plant/pump/flow", unit = "m3/h" }}
[feeds.press.sources.uns.tags.temperature]
topic = "plant/pump/state"
path = "bearings[0].t"
time_path = "at"
quality_path = "q"
unit = "°C"
[feeds.press.sinks.line]
kind = "mqtt"
host = "127.0.0.1"
port = {port}
topic = "answers/{{device}}/{{feed}}"
"""


def state(temperature: float, quality: str = "GOOD") -> dict[str, object]:
    return {"bearings": [{"t": temperature}], "at": "2026-11-30T12:00:00Z", "q": quality}


@pytest.fixture
def broker(tmp_path):
    with PlantBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def fed(tmp_path, broker):
    with FedSlot(tmp_path, FEED.format(port=broker.port)) as fed:
        yield fed


@pytest.fixture
def plant(broker):
    with PlantClient(broker.port, "answers/#") as plant:
        plant.publish("plant/pump/flow", "1.5", retain=True)
        plant.publish("plant/pump/state", state(2.5), retain=True)
        yield plant


def good(answer):
    return answer["basis"] == "model" and answer["quality"] == "good"


def substituted(answer):
    return answer["basis"] == "constant"


def test_values_of_topics_become_the_models_answer_with_all_that_its_reader_needs(fed, plant):
    fed.begin_worker()
    fed.begin_feed()
    answer = plant.answer(good)
    w, b = models.weights(2, 3)
    wanted = models.softmax(np.array([[1.5, 2.5]], np.float32), w, b)[0]
    assert np.allclose(answer["outputs"]["probabilities"], wanted, atol=1e-5)
    assert answer["label"] == str(wanted.argmax())
    assert answer["confidence"] == pytest.approx(wanted.max(), abs=1e-5)
    assert (answer["model"], answer["version"]) == ("dense", "1")
    assert (answer["reason"], answer["signals"]) == ("", [])
    assert "T" in answer["timestamp"]


def test_a_bad_value_brings_the_signed_constant_and_names_its_signal(fed, plant):
    fed.begin_worker()
    fed.begin_feed()
    plant.answer(good)
    plant.publish("plant/pump/state", state(2.5, "BAD"))
    answer = plant.answer(substituted)
    assert answer["outputs"] == {"probabilities": [0.25, 0.25, 0.5]}
    assert (answer["quality"], answer["reason"]) == ("uncertain", "source")
    assert answer["signals"] == ["temperature"]
    plant.publish("plant/pump/state", state(2.5))
    plant.answer(good)
    plant.publish("plant/pump/flow", "250")
    assert plant.answer(substituted)["reason"] == "range"


def test_while_no_worker_answers_the_signed_constant_does(fed, plant):
    worker = fed.begin_worker()
    fed.begin_feed()
    plant.answer(good)
    os.kill(worker.pid, signal.SIGKILL)
    assert plant.answer(substituted)["reason"] == "model"
    fed.begin_worker()
    plant.answer(good)


def test_a_silent_source_is_stale_and_a_lost_one_is_said_to_be_back(fed, plant, broker):
    fed.begin_worker()
    fed.begin_feed()
    plant.answer(good)
    assert plant.answer(substituted)["reason"] == "stale"
    broker.stop()
    assert fed.notice("source_lost").part == "uns"
    broker.start()
    assert fed.notice("source_back").part == "uns"
    assert fed.notice("sink_back").part == "line"


def test_a_feed_that_is_killed_leaves_a_will_and_one_that_ends_says_so_itself(fed, plant):
    fed.begin_worker()
    process = fed.begin_feed()
    plant.answer(good)
    os.kill(process.pid, signal.SIGKILL)
    answer = plant.answer(lambda answer: answer["basis"] == "no_decision")
    assert (answer["quality"], answer["reason"], answer["value"]) == ("bad", "lost", None)
    assert fed.events.get(timeout=60) is not None
    fed.begin_feed()
    plant.publish("plant/pump/flow", "1.5")
    plant.publish("plant/pump/state", state(2.5))
    plant.answer(good)
    fed.process.stop()
    answer = plant.answer(lambda answer: answer["basis"] == "no_decision")
    assert (answer["model"], answer["reason"]) == ("dense", "lost")


def test_a_manifest_that_was_altered_is_not_believed(fed, plant):
    fed.begin_worker()
    fed.begin_feed()
    plant.answer(good)
    fed.serve("00" * 32)
    assert "is not the manifest that was signed" in fed.notice("refused").detail
    plant.answer(lambda answer: answer["basis"] == "no_decision")


def test_what_a_feed_publishes_waits_for_no_acknowledgement_of_what_went_before(tmp_path, broker):
    async def connected():
        address = MqttSource(host="127.0.0.1", port=broker.port, tags={})
        place = FeedPlace("d1", "press", "uns", "slot", tmp_path)
        connection = PlantConnection(address, place)
        await connection.open()
        try:
            held = connection._client.socket()
            return held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            await connection.close()

    assert asyncio.run(connected()) == 1
