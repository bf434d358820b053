"""How feeds stand as a report tells it: true to the status, and bounded whatever it holds."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.feeds import live
from muster_agent.feeds.status import AnswerStatus, FeedStatus, PartStatus, SignalStatus
from muster_protocol.wire import limits, messages
from muster_protocol.wire.messages import Facts, Report
from wire_samples import STAMP


def status(*signals: SignalStatus, **fields) -> FeedStatus:
    usual = {
        "feed": "press", "slot": "pump", "at": 1000.0, "model": "wear", "version": "3",
        "refusal": "", "sources": {}, "sinks": {}, "counts": {"rows_good": 7}, "dropped": {},
    }  # fmt: skip
    return FeedStatus(signals=list(signals), **(usual | fields))


def signal(name: str, quality: str = "good", value: float | None = 2.5) -> SignalStatus:
    return SignalStatus(name, name, value, "mm/s", quality, "", 1.0)


def travelled(feeds):
    """The feeds of a report as the hub reads them."""
    report = Report(at=STAMP, facts=Facts(agent_version="1"), feeds=feeds)
    return messages.decode(messages.encode(report), Report).feeds


def test_values_units_qualities_ages_and_the_last_answer_are_told_as_they_were():
    answer = AnswerStatus(0.9, "worn", 0.9, "good", "", "model", 998.0)
    written = status(
        signal("flow"),
        signal("t", "bad", None),
        sources={"plc": PartStatus("no route", {"reads": 3})},
        dropped={"flow": 2, "t": 1},
        answer=answer,
    )
    (found,) = travelled({"press": live.reported(written, 1004.0)}).values()
    assert [(s.feature, s.value, s.unit, s.quality) for s in found.signals] == [
        ("flow", 2.5, "mm/s", "good"), ("t", None, "mm/s", "bad"),
    ]  # fmt: skip
    assert found.signals[0].age_seconds == 5.0, "its own, and that of the status"
    assert (found.sources["plc"].trouble, found.sources["plc"].counts) == ("no route", {"reads": 3})
    assert found.counts == {"rows_good": 7, "dropped": 3}
    assert (found.answer.label, found.answer.age_seconds) == ("worn", 6.0)


def test_where_there_is_no_room_for_all_signals_the_bad_ones_are_told():
    names = [f"s{number}" for number in range(200)]
    many = status(*(signal(name, "bad" if name in {"s150", "s199"} else "good") for name in names))
    (found,) = live.bounded({"press": live.reported(many, 1000.0)}).values()
    kept = [each.feature for each in found.signals]
    assert {"s150", "s199"} <= set(kept)
    assert len(kept) + found.left_out == 200
    assert kept == sorted(kept, key=names.index), "in the model's order"


TEXTS = st.text(max_size=400)
NUMBERS = st.one_of(st.none(), st.floats())
COUNTS = st.dictionaries(TEXTS, st.integers(0, 2**40), max_size=40)
PARTS = st.dictionaries(TEXTS, st.builds(PartStatus, TEXTS, COUNTS), max_size=4)


@given(
    signals=st.lists(
        st.builds(SignalStatus, TEXTS, TEXTS, NUMBERS, TEXTS, TEXTS, TEXTS, NUMBERS), max_size=8
    ),
    parts=PARTS,
    answer=st.builds(AnswerStatus, NUMBERS, TEXTS, NUMBERS, TEXTS, TEXTS, TEXTS, st.floats()),
    copies=st.integers(1, 20),
)
def test_whatever_a_status_holds_what_is_told_is_bounded_and_can_be_read(
    signals, parts, answer, copies
):
    odd = status(*signals * copies, sources=parts, sinks=parts, answer=answer)
    feeds = {f"f{number}": live.reported(odd, 1e9) for number in range(copies)}
    kept = live.bounded(feeds)
    assert len(msgspec.msgpack.encode(kept)) <= limits.FEEDS_BYTES_MAX
    assert travelled(kept).keys() == kept.keys()
