"""The hub's permit to swap, answer by answer: for one version, for so long, from the asking on."""

import random

import pytest

from muster_agent.update.permit import NoConditions, Policy, SwapPermits
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.messages import Grant
from support.agent_faults import WorldClock

SLOT = "main"
GOAL = Goal("digits", "2", "ab" * 32, 100)
OTHER = Goal("digits", "3", "cd" * 32, 100)


class Desk:
    """A slot that asks and a hub that answers, at times the test sets."""

    def __init__(self):
        self.asked = []
        self.permits = SwapPermits(
            clock=WorldClock(), zone=None, inputs=NoConditions(), ask=self.heard,
            rng=random.Random(1), nonce=lambda: len(self.asked).to_bytes(16, "big"),
        )  # fmt: skip
        self.permits.rule(SLOT, Policy("grant"))

    def heard(self, request):
        self.asked.append(request)
        return True

    def free_at(self, now, goal=GOAL):
        return self.permits.waits_for(SLOT, goal, 7, now) == ""

    def answer(self, now, **fields):
        request = self.asked[-1]
        answer = {"nonce": request.nonce, "slot": request.slot, "given": True} | fields
        self.permits.answered(Grant(**answer), now)


@pytest.fixture
def desk():
    made = Desk()
    assert not made.free_at(0)
    return made


def test_a_permit_is_good_for_its_seconds_counted_from_the_asking_however_late_the_answer(desk):
    desk.answer(10.0, valid_seconds=60.0)
    assert desk.free_at(59.9)
    assert not desk.free_at(60.1)


def test_a_permit_that_comes_when_its_time_is_over_is_none(desk):
    desk.answer(50.0, valid_seconds=40.0)
    assert not desk.free_at(50.0)


def test_a_permit_counts_for_the_version_it_was_asked_for(desk):
    desk.answer(1.0, valid_seconds=60.0)
    assert not desk.free_at(2.0, OTHER)
    assert [request.manifest for request in desk.asked] == [GOAL.manifest, OTHER.manifest]
    assert not desk.free_at(3.0, GOAL), "asking for another gives up what was given"


@pytest.mark.parametrize("wrong", [{"nonce": b"x" * 16}, {"slot": "other"}])
def test_an_answer_to_another_question_is_none(desk, wrong):
    desk.answer(1.0, valid_seconds=60.0, **wrong)
    assert not desk.free_at(2.0)


def test_an_answer_counts_once(desk):
    desk.answer(1.0, given=False, retry_seconds=30.0)
    desk.answer(2.0, valid_seconds=600.0)
    assert not desk.free_at(3.0)
