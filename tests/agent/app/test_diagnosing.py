"""A look at everything because an operator asked: once a request, bounded, told in events."""

import logging
import queue

import pytest
from msgspec import UNSET

from muster_agent.app.diagnosing import FINDINGS_MAX, WARNINGS_MAX, Diagnosing, LatestWarnings
from muster_agent.app.doctor import Finding
from muster_agent.app.ports import Diagnosed
from muster_agent.storage.state import open_state
from muster_protocol.wire import messages
from muster_protocol.wire.limits import EVENT_DETAIL_CHARS_MAX
from wire_samples import STAMP

FOUND = (Finding("disk", "ok", "9 MiB free"), Finding("broker", "fail", "no answer"))


class Device:
    def __init__(self, directory, findings=FOUND, warnings=()):
        self.done: queue.Queue[Diagnosed] = queue.Queue()
        self.state = open_state(directory, {})
        self.diagnosing = Diagnosing(
            self.state, lambda: iter(findings), self.done.put, lambda: list(warnings)
        )

    def looked(self):
        """The events of the look that was begun, as its hub may read them."""
        events = self.diagnosing.events(self.done.get(timeout=60), STAMP)
        return [messages.decode(messages.encode(each), messages.Event) for each in events]


@pytest.fixture
def device(tmp_path):
    made = Device(tmp_path)
    yield made
    made.state.close()


def test_what_is_found_goes_home_a_line_for_each_check_under_the_requests_number(device):
    device.diagnosing.obey(3)
    events = device.looked()
    assert [each.detail for each in events] == ["ok disk: 9 MiB free", "fail broker: no answer"]
    assert [each.values for each in events] == [{"request": 3.0}] * 2


def test_a_request_is_answered_once_whatever_is_started_again(device, tmp_path):
    device.diagnosing.obey(1)
    assert device.looked()
    device.state.close()
    again = Device(tmp_path)
    again.diagnosing.obey(1)
    again.diagnosing.obey(UNSET)
    assert again.done.empty()
    again.diagnosing.obey(2)
    assert again.looked()
    again.state.close()


def test_a_request_that_comes_while_it_looks_is_answered_after(device):
    device.diagnosing.obey(1)
    device.diagnosing.obey(2)
    assert {each.values["request"] for each in device.looked()} == {1.0}
    device.diagnosing.obey(2)  # as the supervisor does once a look has ended
    assert {each.values["request"] for each in device.looked()} == {2.0}


def test_however_much_is_found_what_goes_home_is_bounded_and_clean(tmp_path):
    endless = [Finding("sockets", "fail", "\x1b[2J" + "x" * 9_000)] * (FINDINGS_MAX + 40)
    device = Device(tmp_path, endless, ["WARNING agent: lost\nthe link"])
    device.diagnosing.obey(1)
    events = device.looked()
    assert len(events) == FINDINGS_MAX + 1
    assert all(len(each.detail) <= EVENT_DETAIL_CHARS_MAX for each in events)
    assert "\x1b" not in events[0].detail
    assert events[-1].detail == "log WARNING agent: lost the link"
    device.state.close()


def test_the_latest_warnings_are_kept_and_no_more(caplog):
    kept = LatestWarnings()
    logger = logging.getLogger("muster_agent.test_diagnosing")
    logger.addHandler(kept)
    for number in range(WARNINGS_MAX + 3):
        logger.info("not kept")
        logger.warning("trouble %d", number)
    logger.removeHandler(kept)
    assert len(kept.lines()) == WARNINGS_MAX
    assert kept.lines()[-1] == f"WARNING muster_agent.test_diagnosing: trouble {WARNINGS_MAX + 2}"
