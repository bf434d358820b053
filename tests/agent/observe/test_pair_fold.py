"""A challenger's windows: what is compared, who agrees, and whose answers the labels favour."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.observe.pair_fold import PairFold
from muster_agent.worker.rows import ErrorKind, RingLayout, RowKind
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import Tally, merge
from muster_protocol.wire import manifest as m
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.messages import Stamp

OPENED = Stamp(b"boot", 1.0, 100.0, "synchronised")
CLOSED = Stamp(b"boot", 11.0, 110.0, "synchronised")
CLASSES = ("cat", "dog")


def release(version, *, classes=CLASSES, **fields):
    width = len(classes) if classes else 1
    made = m.Manifest(
        model="pets", version=version, created=0, inputs=(m.Tensor("x", "FP32", (-1, 2)),),
        outputs=(m.Tensor("y", "FP32", (-1, width)),),
        builds=(m.Build("onnx", "model.onnx", 1 << 20),),
        files=(m.File("model.onnx", 1, "00" * 32), m.File("golden.npz", 1, "00" * 32)),
        golden=m.Golden("golden.npz"),
        classifier=m.Classifier("y", classes) if classes else None, **fields,
    )  # fmt: skip
    return made, version * 64


def rows(layout, pairs, *, error=ErrorKind.NONE):
    """One row for each (id, champion's answer, challenger's answer)."""
    made = np.zeros(len(pairs), layout.dtype)
    for row, (identifier, champion, challenger) in zip(made, pairs, strict=True):
        row["id"], row["kind"], row["error"] = identifier, RowKind.INFERENCE, error
        row["input"] = np.asarray(champion, np.float32).tobytes()
        row["output"] = np.asarray(challenger, np.float32).tobytes()
    return made


def labels(layout, *named):
    raw = np.zeros(len(named), layout.dtype)
    for row, (identifier, label) in zip(raw, named, strict=True):
        row["id"], row["kind"] = identifier, RowKind.LABEL
        data = label.encode()
        place = slice(layout.dtype.fields["input"][1], None)
        row_bytes = bytearray(row.tobytes())
        row_bytes[place] = data.ljust(len(row_bytes[place]), b"\0")
        raw[named.index((identifier, label))] = np.frombuffer(bytes(row_bytes), layout.dtype)[0]
    return raw


def fold(champion=None, challenger=None):
    return PairFold(champion or release("1"), challenger or release("2"), OPENED)


CAT, DOG, NEITHER = (0.9, 0.1), (0.2, 0.8), (np.nan, 0.5)


def test_classifiers_agree_when_they_name_the_same_class():
    item = fold()
    item.feed(rows(item.layout, [(b"", CAT, (0.6, 0.4)), (b"", CAT, DOG), (b"", DOG, DOG)]))
    assert item.close(CLOSED)[0].counts == Tally(compared=3, disagreed=1)


def test_classes_are_compared_by_name_whatever_their_order():
    item = fold(challenger=release("2", classes=("dog", "cat")))
    item.feed(rows(item.layout, [(b"", CAT, DOG), (b"", CAT, CAT)]))
    assert item.close(CLOSED)[0].counts == Tally(compared=2, disagreed=1)


def test_scores_that_are_no_numbers_agree_with_no_class():
    item = fold()
    item.feed(rows(item.layout, [(b"", CAT, NEITHER), (b"", NEITHER, DOG)]))
    assert item.close(CLOSED)[0].counts == Tally(compared=2, disagreed=2)


def test_numbers_agree_within_the_challengers_declared_tolerance():
    exact = m.Agreement(relative=0.0, absolute=0.5)
    item = fold(release("1", classes=()), release("2", classes=(), agreement=exact))
    pairs = [((2.0,), (2.4,)), ((2.0,), (2.6,)), ((np.inf,), (np.inf,)), ((np.nan,), (1.0,))]
    item.feed(rows(item.layout, [(b"", *pair) for pair in pairs]))
    assert item.close(CLOSED)[0].counts == Tally(compared=4, disagreed=2)


def test_an_input_that_the_challenger_failed_on_is_a_disagreement():
    item = fold()
    item.feed(rows(item.layout, [(b"a", CAT, CAT)], error=ErrorKind.RUN_FAILED))
    item.feed(labels(item.layout, (b"a", "cat")))
    assert item.close(CLOSED)[0].counts == Tally(compared=1, disagreed=1, compared_failed=1)


def test_labels_tell_which_of_the_two_was_right_on_the_same_inputs():
    item = fold()
    item.feed(rows(item.layout, [(b"a", CAT, CAT), (b"b", CAT, DOG), (b"c", DOG, CAT)]))
    labelled = [(b"a", "cat"), (b"b", "dog"), (b"c", "dog"), (b"unknown", "cat")]
    item.feed(labels(item.layout, *labelled))
    counts = item.close(CLOSED)[0].counts
    assert counts.compared_labelled == 3
    assert (counts.compared_right, counts.compared_champion_right) == (2, 2)


def test_of_two_regressions_the_one_nearer_to_the_label_is_right():
    item = fold(release("1", classes=()), release("2", classes=()))
    item.feed(rows(item.layout, [(b"a", (1.0,), (2.0,)), (b"b", (5.0,), (5.0,))]))
    item.feed(labels(item.layout, (b"a", "2.1"), (b"b", "4")))
    counts = item.close(CLOSED)[0].counts
    assert counts.compared_labelled == 2
    assert (counts.compared_right, counts.compared_champion_right) == (2, 1)


def test_a_label_counts_once_and_what_was_counted_before_a_restart_is_not_counted_again():
    before, after = fold(), fold()
    counted = rows(before.layout, [(b"a", CAT, DOG)])
    before.feed(counted)
    after.restore(before.save())
    after.recall(counted)
    after.feed(labels(after.layout, (b"a", "dog"), (b"a", "dog")))
    counts = after.close(CLOSED)[0].counts
    expected = Tally(compared=1, disagreed=1, compared_labelled=1, compared_right=1)
    assert counts == expected


def test_a_window_of_another_challenger_is_not_taken_up():
    other = fold(challenger=release("3")).save()
    with pytest.raises(ProtocolError, match="not a saved window"):
        fold().restore(other)


def test_a_challengers_window_counts_nothing_for_the_version_but_what_was_compared():
    item = fold()
    item.feed(rows(item.layout, [(b"", CAT, DOG)]))
    summary = item.close(CLOSED)[0]
    assert summary.manifest == "2" * 64
    assert (summary.counts.inferences, summary.counts.errors, summary.accuracy) == (0, 0, None)
    assert not summary.latency.any()
    assert item.empty


counts = st.integers(0, 2**40)


@given(st.builds(Tally, **dict.fromkeys(Tally.__dataclass_fields__, counts)))
def test_every_count_crosses_the_wire_and_merges_exactly(tally):
    item = fold()
    whole = item.close(CLOSED)[0]
    whole = type(whole)(**{**whole.__dict__, "counts": tally})
    back = summary_wire.decode(summary_wire.encode(whole), None)
    assert back.counts == tally
    assert merge(back, whole).counts == tally + tally


def test_the_layout_of_pairs_holds_both_answers_and_no_input():
    layout = RingLayout.pairs(RingLayout.of(*release("1")), *release("2", classes=("a", "b", "c")))
    assert (layout.input_bytes, layout.output_bytes) == (8, 12)
