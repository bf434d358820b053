"""Feeds are told in reports while somebody watches them at the hub, once a request."""

import pytest

from muster_agent.app.feed_watching import WATCH_SECONDS
from muster_agent.app.sending import LIVELY_SECONDS
from muster_agent.feeds.watch import NoFeeds
from muster_protocol.wire.feed_report import FeedReport
from support.agent_world import SLOT, Device, World


class OneFeed(NoFeeds):
    """A device with one feed, which stands as it stands."""

    def states(self) -> dict[str, FeedReport]:
        return {"press": FeedReport(slot=SLOT)}


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path)
    made.feeds = OneFeed()
    made.boot()
    yield made
    if made.supervisor is not None:
        made.cut()


def test_feeds_are_told_often_while_they_are_watched_and_not_at_all_otherwise(world, device):
    device.run(200)
    assert device.reports
    assert not any(report.feeds for report in device.reports)
    device.reports.clear()
    world.direct(world.release("1"), feed_watches=1)
    device.run(WATCH_SECONDS)
    watched = [report for report in device.reports if report.feeds]
    assert watched[0].feeds == {"press": FeedReport(slot=SLOT)}
    assert len(watched) >= WATCH_SECONDS / LIVELY_SECONDS * 0.7
    device.run(30)
    device.reports.clear()
    device.run(300)
    assert 3 <= len(device.reports) <= 10, "as often as always"
    assert not any(report.feeds for report in device.reports)


def test_a_request_counts_once_also_across_a_restart_and_the_next_one_again(world, device):
    goal = world.release("1")
    world.direct(goal, feed_watches=2)
    device.run(10)
    assert device.reports[-1].feeds
    device.cut()
    device.boot()
    device.reports.clear()
    world.direct(goal, feed_watches=2)
    device.run(10)
    assert not any(report.feeds for report in device.reports)
    world.direct(goal, feed_watches=3)
    device.run(10)
    assert device.reports[-1].feeds
