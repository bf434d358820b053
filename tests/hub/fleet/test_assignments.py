"""Which release a slot gets, and that the reason is told."""

from hypothesis import given
from hypothesis import strategies as st

from muster_hub.fleet.assignments import AssignedRelease, Override, Release, choose
from muster_protocol.wire.selectors import parse


def release(version):
    return Release(model="pump", version=version, manifest=version * 64, manifest_bytes=500)


def assignment(number, selector, version, precedence, slot="main"):
    return AssignedRelease(
        id=number,
        slot=slot,
        selector=parse(selector),
        release=release(version),
        precedence=precedence,
    )


def test_a_device_that_joins_later_gets_what_its_labels_match():
    choices = choose({"site": "berlin"}, [assignment(1, "site=berlin", "1", 1)])
    assert choices["main"].release.version == "1"
    assert choices["main"].reason == "assignment 1 (site=berlin)"


def test_the_highest_precedence_wins_and_says_over_whom():
    found = [assignment(1, "", "1", 1), assignment(2, "site=berlin", "2", 5)]
    choice = choose({"site": "berlin"}, found)["main"]
    assert choice.release.version == "2"
    assert choice.reason == ("assignment 2 (site=berlin) has the highest precedence, 5, before 1")


def test_a_rollout_that_reached_the_device_goes_before_assignments():
    override = Override(rollout=9, slot="main", release=release("3"), window_seconds=5.0)
    choice = choose({}, [assignment(1, "", "1", 1)], [override])["main"]
    assert (choice.release.version, choice.rollout, choice.window_seconds) == ("3", 9, 5.0)


def test_slots_are_chosen_apart():
    found = [assignment(1, "", "1", 1), assignment(2, "", "2", 2, slot="audio")]
    choices = choose({}, found)
    assert {slot: choice.release.version for slot, choice in choices.items()} == {
        "main": "1",
        "audio": "2",
    }


@given(st.permutations([assignment(n, "", str(n), n) for n in range(1, 6)]))
def test_the_order_of_reading_does_not_matter(found):
    assert choose({}, found)["main"].release.version == "5"
