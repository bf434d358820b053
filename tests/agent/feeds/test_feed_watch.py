"""The supervisor's side of feeds: started, given their model, begun again, ended."""

import os
import queue
import random
import signal
import time

import pytest

from muster_agent.base.config import load
from muster_agent.feeds.process import FeedEvent
from muster_agent.feeds.watch import Feeds, Served
from muster_protocol.wire.directive import Goal
from support.fed import fed_bundle
from support.waiting import until

pytestmark = pytest.mark.system

FILE = """device = "press-7"
run_dir = "run"
[broker]
host = "localhost"
[feeds.press]
slot = "slot"
hub_may_set = ["sources.log.every_seconds", "sources.log.tags"]
[feeds.press.sources.log]
kind = "csv"
path = "log.csv"
every_seconds = 0.05
from_start = true
tags = { flow = { column = "flow", unit = "m3/h" }, temperature = { column = "t", unit = "°C" } }
"""


@pytest.fixture
def feeds(tmp_path):
    (tmp_path / "agent.toml").write_text(FILE)
    listed, digest = fed_bundle(tmp_path / "bundle")
    events = queue.Queue[FeedEvent]()
    made = Feeds(
        {"press": "slot"},
        tmp_path,
        lambda _goal: tmp_path / "bundle",
        events.put,
        restart_seconds=(0.05, 1.0),
        rng=random.Random(1),
        now=time.monotonic(),
        run_dir=tmp_path / "run",
        wall=time.time,
        settings=load(tmp_path).settings.feeds,
    )
    made.events = events
    made.served = {"slot": Served(Goal(listed.model, listed.version, digest, 1), None)}
    yield made
    made.stop(time.monotonic())
    until(lambda: look(made), lambda _: made.idle())


def look(feeds) -> list[str]:
    """Let the supervisor's loop go on for a moment; what the hub would hear."""
    feeds.tick(time.monotonic(), feeds.served)
    news = []
    try:
        found = feeds.handle(feeds.events.get(timeout=0.05), time.monotonic())
        news += [found.detail] if found else []
    except queue.Empty:
        pass
    return news


def hears(feeds, words: str) -> None:
    heard: list[str] = []
    until(lambda: heard.extend(look(feeds)) or heard, lambda said: any(words in s for s in said))


def process(feeds):
    return feeds._watched["press"].process


def test_a_feed_says_what_it_lacks_is_begun_again_when_it_dies_and_ends_when_asked(feeds, tmp_path):
    hears(feeds, "feed press: source lost log: ")
    assert "log.csv: No such file" in feeds.trouble("slot")
    assert feeds.trouble("another") == ""
    (tmp_path / "log.csv").write_text("flow,t\n1,2\n")
    hears(feeds, "feed press: source back log")
    hears(feeds, "feed press: signals bad: flow (stale), temperature (stale)")
    assert feeds.trouble("slot") == "feed press: signals: flow (stale), temperature (stale)"
    first = process(feeds).pid
    os.kill(first, signal.SIGKILL)
    hears(feeds, "its process ended with status -9, begun again")
    assert "its process ended" in feeds.trouble("slot")
    hears(feeds, "feed press: accepted: dense 1")
    assert process(feeds).pid != first
    assert "its process ended" not in feeds.trouble("slot")


def test_a_model_that_the_tags_do_not_fit_is_refused_with_both_names(feeds, tmp_path):
    text = (tmp_path / "agent.toml").read_text()
    (tmp_path / "agent.toml").write_text(text.replace('"m3/h"', '"l/min"'))
    hears(feeds, "takes it in 'm3/h', the tag gives 'l/min'")
    assert "'flow'" in feeds.trouble("slot")


def test_a_feed_begins_anew_with_what_the_hub_sets_and_says_what_it_does_not_take(feeds, tmp_path):
    (tmp_path / "log.csv").write_text("flow,t,flow2\n1,2,7\n")
    hears(feeds, "feed press: accepted: dense 1")
    first = process(feeds).pid
    (refused,) = feeds.adopt({"press": {"sources.log.path": "/etc/passwd"}}, time.monotonic())
    assert "sources.log.path: only agent.toml sets it" in refused.detail
    assert "the hub's settings: sources.log.path" in feeds.trouble("slot")
    assert feeds.adopt({"press": {"sources.log.path": "/etc/passwd"}}, time.monotonic()) == []
    wanted = {"press": {"sources.log.tags.flow.column": "flow2"}}
    (begun,) = feeds.adopt(wanted, time.monotonic())
    assert (begun.slot, begun.detail) == ("slot", "feed press: begun with the hub's settings")
    assert "the hub's settings" not in feeds.trouble("slot")
    hears(feeds, "feed press: accepted: dense 1")
    assert process(feeds).pid != first
    until(lambda: flow(feeds, tmp_path), lambda value: value == 7.0)


def flow(feeds, tmp_path) -> float | None:
    """The last value of the first signal, after another line for the feed to read."""
    with (tmp_path / "log.csv").open("a") as file:
        file.write("1,2,7\n")
    look(feeds)
    signals = feeds.states()["press"].signals
    return signals[0].value if signals else None
