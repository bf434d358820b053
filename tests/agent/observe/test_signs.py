"""What closed windows say of a slot's health, and that counting can't take the agent down."""

import numpy as np

from muster_agent.observe import outputs
from muster_agent.observe.signs import LabelWatch, SlotSigns, Watched
from muster_protocol.signals import baseline, binning, features
from muster_protocol.signals.rule import Rule
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire.messages import Stamp

AT = Stamp(b"boot", 1.0, 2.0, "synchronised")
RNG = np.random.default_rng(1)
TRAINED = baseline.fit(
    {"x": RNG.normal(size=(4000, 2)).astype(np.float32)}, [*features.elements("x", ["a", "b"])]
)


def window(shift=0.0, rows=2000, **counts):
    x = RNG.normal(size=(rows, 2)).astype(np.float32) + np.float32([shift, 0.0])
    tally = Tally(**{"inferences": rows, **counts})
    counted = binning.count(TRAINED, {"x": x})
    return Summary("m", "1", "a" * 64, AT, AT, counts=tally, features=counted)


def test_inputs_that_move_are_named_on_the_device_itself_and_forgotten_when_they_recover():
    signs = SlotSigns()
    signs.watch(TRAINED, Rule())
    news = [finding for _ in range(8) for finding in signs.feed(window())]
    assert (news, signs.drifting) == ([], frozenset())
    news = [finding for _ in range(3) for finding in signs.feed(window(shift=2.0))]
    assert [(finding.feature, finding.state) for finding in news] == [("a", "opened")]
    assert signs.drifting == {"a"}
    news = [finding for _ in range(40) for finding in signs.feed(window())]
    assert [finding.state for finding in news] == ["cleared"]
    assert not signs.drifting


def test_a_second_worker_of_the_same_model_goes_on_where_the_first_stopped():
    signs = SlotSigns()
    signs.watch(TRAINED, Rule())
    for shift in (*[0.0] * 8, 2.0):
        signs.feed(window(shift=shift))
    signs.watch(TRAINED, Rule())
    assert signs.drifting == {"a"}


def test_a_rebaseline_is_done_once_however_often_it_is_asked_for():
    signs = SlotSigns()
    assert not signs.rebaseline(1)
    signs.watch(TRAINED, Rule())
    for shift in (*[0.0] * 8, *[2.0] * 12):
        signs.feed(window(shift=shift))
    assert signs.drifting == {"a"}
    assert signs.rebaseline(1)
    assert signs.drifting == frozenset()
    assert signs.calibration == "calibrating"
    assert not signs.rebaseline(1)
    for _ in range(20):
        signs.feed(window(shift=2.0))
    assert signs.drifting == frozenset()
    for _ in range(5):
        signs.feed(window())
    assert signs.drifting == {"a"}


def test_a_monitor_goes_on_after_a_restart_where_it_was_saved():
    before, after = SlotSigns(), SlotSigns()
    before.watch(TRAINED, Rule())
    for shift in (*[0.0] * 8, *[2.0] * 12):
        before.feed(window(shift=shift))
    before.rebaseline(3)
    after.watch(TRAINED, Rule())
    after.resume(before.saved(), before.rebaselines)
    assert after.rebaselines == 3
    assert not after.rebaseline(3)
    for _ in range(20):
        after.feed(window(shift=2.0))
    assert after.drifting == frozenset()


def test_a_monitor_of_another_baseline_is_not_taken_up():
    other = baseline.fit({"x": np.arange(200, dtype=np.float32)}, [*features.elements("x", ["c"])])
    signs, strange = SlotSigns(), SlotSigns()
    signs.watch(TRAINED, Rule())
    strange.watch(other, Rule())
    signs.resume(strange.saved(), 5)
    assert signs.rebaselines == 0
    assert signs.feed(window()) == []


def test_labels_are_overdue_only_when_they_used_to_come():
    never = LabelWatch()
    for _ in range(1000):
        never.feed(0, 50)
    assert not never.overdue
    daily = LabelWatch()
    for _ in range(5):
        daily.feed(10, 50)
        for _ in range(20):
            daily.feed(0, 50)
    for _ in range(40):
        daily.feed(0, 50)
    assert not daily.overdue
    daily.feed(0, 50)
    assert daily.overdue
    daily.feed(1, 50)
    assert not daily.overdue


def test_a_machine_that_stands_still_owes_no_labels():
    watch = LabelWatch()
    for _ in range(5):
        watch.feed(10, 50)
    for _ in range(500):
        watch.feed(0, 0)
    assert not watch.overdue


class OneWindow:
    """A fold whose window is closed again and again."""

    trouble, empty, features = "", False, None

    def __init__(self):
        self.holds = None

    def close(self, _stamp):
        return [self.holds]

    def save(self):
        return b""

    def restore(self, _saved):
        """It holds what it held."""


def test_a_window_that_could_not_be_committed_is_judged_as_if_for_the_first_time():
    signs, fold, events = SlotSigns(), OneWindow(), []
    signs.watch(TRAINED, Rule())
    watched = Watched(fold, signs, lambda finding, _at: events.append(finding.state))
    for shift in (*[0.0] * 8, 2.0):
        fold.holds = window(shift=shift, labels_right=3)
        before = signs.saved()
        held = watched.save()
        watched.close(AT)
        watched.save()
        watched.restore(held)
        assert signs.saved() == before
        watched.save()
        watched.close(AT)
        watched.committed()
    assert events == ["opened", "opened"]
    assert signs.drifting == {"a"}
    assert signs.inferences == 2000
    watched.restore(watched.save())  # Nothing was closed since: nothing is forgotten.
    assert signs.drifting == {"a"}


class BrokenFold:
    """A fold that a hostile baseline makes fail in every way."""

    trouble = ""
    empty = False

    def feed(self, rows, overrun=0):
        raise ZeroDivisionError("rows")

    def recall(self, rows):
        raise IndexError("recall")

    def close(self, stamp):
        return [Summary("m", "1", "a" * 64, AT, stamp)]


def test_whatever_counting_raises_costs_counts_and_is_told_as_trouble():
    signs = SlotSigns()
    watched = Watched(BrokenFold(), signs, lambda finding, at: None)
    watched.feed(np.zeros(3))
    watched.recall(np.zeros(3))
    assert len(watched.close(AT)) == 1
    assert "IndexError: recall" in signs.trouble


def answered(signs, shift, rows=1000):
    """Let the model answer: ``a`` and ``b`` stand for outputs here."""
    signs.watch(TRAINED, Rule(), {"x"})
    signs.feed(window(shift=shift, rows=rows))
    return signs.answers()


def test_answers_that_moved_are_evidence_only_when_the_champions_had_not():
    good, moved = answered(SlotSigns(), 0.0), answered(SlotSigns(), 2.0)
    assert outputs.shifted(good, good) == ""
    assert outputs.shifted(moved, moved) == ""  # The inputs moved, not the model.
    assert outputs.shifted(good, moved) == ""
    assert outputs.shifted(moved, good).startswith("a: answers moved by")


def test_too_few_answers_are_no_evidence_either_way():
    few, good = answered(SlotSigns(), 2.0, rows=100), answered(SlotSigns(), 0.0)
    assert outputs.shifted(few, good) == ""
    assert outputs.shifted(answered(SlotSigns(), 2.0), answered(SlotSigns(), 0.0, rows=100)) == ""
    assert outputs.shifted(None, good) == outputs.shifted(good, None) == ""


def test_equal_models_are_never_told_apart_by_chance():
    champion = answered(SlotSigns(), 0.0)
    for _ in range(200):
        assert outputs.shifted(answered(SlotSigns(), 0.0, rows=250), champion) == ""


def test_inputs_are_not_answers():
    signs = SlotSigns()
    signs.watch(TRAINED, Rule(), {"probabilities"})
    signs.feed(window(shift=2.0))
    assert signs.answers() is None
