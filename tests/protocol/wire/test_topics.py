"""Topics: what is built parses back, and nothing else parses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.wire import topics
from muster_protocol.wire.errors import ProtocolError
from wire_samples import device_ids, digests, names

leaves = st.sampled_from(topics.UP_LEAVES)


@given(device_ids, leaves)
def test_an_up_topic_parses_back_to_what_built_it(device, leaf):
    assert topics.parse_up(topics.up(device, leaf)) == (device, leaf)


@given(digests)
def test_a_chunk_topic_parses_back_to_its_digest(digest):
    assert topics.parse_chunk(topics.chunk(digest)) == digest


@given(st.integers(1, 999_999_999), names)
def test_a_tuf_topic_parses_back_to_its_file(version, role):
    file = f"{version}.{role}.json"
    assert topics.parse_tuf(topics.tuf(file)) == file
    assert topics.parse_tuf(topics.tuf("timestamp.json")) == "timestamp.json"


@given(st.text(max_size=80))
def test_whatever_parses_as_an_up_topic_is_exactly_what_would_be_built(topic):
    try:
        parsed = topics.parse_up(topic)
    except ProtocolError:
        return
    assert topics.up(parsed.device, parsed.leaf) == topic


@given(
    device_ids,
    leaves,
    st.sampled_from(["", "/", "\n", "\x00", "/x", "+", "#"]),
)
def test_an_up_topic_with_anything_added_or_missing_is_refused(device, leaf, extra):
    good = topics.up(device, leaf)
    bad = [f"/{good}", good + extra + "x", good[:-1], good.replace("/up/", "/down/")]
    if extra:
        bad += [good + extra, good.replace(device, device + extra, 1)]
    for topic in bad:
        with pytest.raises(ProtocolError):
            topics.parse_up(topic)


@pytest.mark.parametrize(
    "device", ["", ".", "..", "-a", "a/b", "a+b", "#", "a b", "ä", "a\n", "a\x00", "x" * 65]
)
def test_a_device_id_that_could_reach_another_topic_is_refused(device):
    with pytest.raises(ProtocolError, match="device id"):
        topics.up(device, "report")
    with pytest.raises(ProtocolError, match="device id"):
        topics.down(device, "ack")


@pytest.mark.parametrize("name", ["", "..", "Upper", "a/b", "a\n", ".hidden", "x" * 65])
def test_a_name_that_could_not_stand_in_a_path_is_refused_and_named(name):
    with pytest.raises(ProtocolError, match="model"):
        topics.check_name(name, "model")


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "a" * 65])
def test_only_a_lower_case_sha256_names_a_chunk(digest):
    with pytest.raises(ProtocolError, match="SHA-256"):
        topics.chunk(digest)


@pytest.mark.parametrize(
    "file",
    ["root.json", "0.root.json", "1.root.JSON", "1.root.json\n", "../1.root.json", "1..json", ""],
)
def test_a_name_outside_the_tuf_scheme_is_neither_built_nor_parsed(file):
    with pytest.raises(ProtocolError, match="TUF"):
        topics.tuf(file)
    assert topics.parse_tuf(f"{topics.ROOT}/tuf/{file}") is None


def test_parsers_leave_other_topics_alone():
    assert topics.parse_chunk("muster/v1/up/a/report") is None
    assert topics.parse_tuf("muster/v1/chunk/" + "a" * 64) is None


def test_the_filter_for_a_leaf_names_every_device_and_nothing_deeper():
    assert topics.up_all("report") == "muster/v1/up/+/report"
