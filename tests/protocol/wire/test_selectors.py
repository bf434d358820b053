"""Selectors: what they mean, and that a mistake is pointed at."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.selectors import Part, Selector, SelectorError, check_labels, parse

LABELS = {"site": "berlin", "line": "2", "gpu": "yes"}

words = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,8}[A-Za-z0-9])?", fullmatch=True)
keys = words.filter(lambda word: word not in ("in", "notin"))
parts = st.one_of(
    st.builds(Part, keys, st.sampled_from(["exists", "absent"])),
    st.builds(
        Part,
        keys,
        st.sampled_from(["in", "notin"]),
        st.lists(words, min_size=1, max_size=4, unique=True).map(tuple),
    ),
)
selectors = st.lists(parts, max_size=5).map(lambda found: Selector(tuple(found)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "site=berlin",
        "site==berlin",
        "site = berlin , line in ( 1 , 2 )",
        "line notin (1,3)",
        "site!=munich",
        "gpu",
        "!retired",
        "retired!=yes",
        "retired notin (yes)",
    ],
)
def test_a_selector_holds_for_a_device_it_describes(text):
    assert parse(text).matches(LABELS)


@pytest.mark.parametrize(
    "text", ["site=munich", "line in (1,3)", "line notin (2)", "!gpu", "retired", "site,gpu=no"]
)
def test_a_selector_does_not_hold_for_another_device(text):
    assert not parse(text).matches(LABELS)


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("site=", 5, "a value"),
        ("site=berlin,", 12, "a label"),
        ("site=berlin line=2", 12, "',' or the end"),
        ("line in 1,2", 8, "'('"),
        ("line in (1,2", 12, "',' or ')'"),
        ("line in ()", 9, "a value"),
        ("=berlin", 0, "a label"),
        ("site$=berlin", 4, "a sign"),
        ("!", 1, "after '!'"),
        ("site ! berlin", 5, "'='"),
    ],
)
def test_a_mistake_is_pointed_at(text, position, expected):
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert caught.value.position == position
    message = str(caught.value)
    assert expected in message
    shown, caret = message.split("\n")[1:]
    assert shown.strip() == text.strip()
    assert caret.index("^") - 2 == position


def test_a_selector_without_end_is_refused():
    with pytest.raises(SelectorError, match="at most 1024 characters"):
        parse("a," * 600)
    with pytest.raises(SelectorError, match="at most 32 parts"):
        parse(",".join(f"k{i}" for i in range(40)))


@given(selectors)
def test_canonical_text_reads_back_as_the_same_selector(selector):
    assert parse(str(selector)) == selector


@given(selectors, st.dictionaries(keys, words, max_size=4))
def test_a_selector_holds_exactly_where_all_its_parts_hold(selector, labels):
    assert selector.matches(labels) == all(
        Selector((part,)).matches(labels) for part in selector.parts
    )


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_within_itself(text):
    with contextlib.suppress(SelectorError):
        assert parse(str(parse(text))) == parse(text)


@given(st.dictionaries(keys, words, max_size=4))
def test_labels_a_selector_can_name_are_accepted(labels):
    check_labels(labels)
    for key, value in labels.items():
        assert parse(f"{key}={value}").matches(labels)


@pytest.mark.parametrize("labels", [{"": "x"}, {"a b": "x"}, {"a": ""}, {"a": "x,y"}, {"a": "é"}])
def test_labels_no_selector_could_name_are_refused(labels):
    with pytest.raises(ProtocolError, match="use 1 to 64"):
        check_labels(labels)
