"""Messages: they survive the wire, and over-long or malformed ones are refused by name."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.wire import limits, messages
from muster_protocol.wire.errors import LimitError, MusterError, ProtocolError
from wire_samples import BATCH, EVENT, MESSAGES, REPORT, STAMP, any_message

KINDS = [type(message) for message in MESSAGES.values()]


@pytest.mark.parametrize("name", MESSAGES)
def test_every_kind_of_message_survives_the_wire(name):
    message = MESSAGES[name]
    assert messages.decode(messages.encode(message), type(message)) == message


@given(any_message())
def test_arbitrary_messages_survive_the_wire(message):
    assert messages.decode(messages.encode(message), type(message)) == message


@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_arbitrary_bytes_are_a_message_or_one_clear_error(data, kind):
    try:
        message = messages.decode(data, kind)
    except MusterError as error:
        said = str(error)
    else:
        said = repr(message)
    assert kind.__name__ in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_over_its_limit_is_refused_before_it_is_parsed(kind):
    with pytest.raises(LimitError, match=kind.__name__):
        messages.decode(bytes(messages._LIMIT_BYTES[kind] + 1), kind)


def test_a_batch_too_long_for_the_broker_is_never_sent():
    row = messages.Row(1, bytes(limits.TELEMETRY_BYTES_MAX))
    with pytest.raises(LimitError, match="Batch"):
        messages.encode(messages.Batch(1, BATCH.epoch, STAMP, [row]))


def test_a_batch_with_more_rows_than_may_be_in_flight_is_refused():
    rows = [messages.Row(1 + i, b"") for i in range(limits.IN_FLIGHT_ROWS_MAX + 1)]
    data = messages.encode(messages.Batch(1, BATCH.epoch, STAMP, rows))
    with pytest.raises(ProtocolError, match=r"Batch.*length"):
        messages.decode(data, messages.Batch)


def test_a_batch_without_rows_is_refused():
    data = messages.encode(messages.Batch(1, BATCH.epoch, STAMP, []))
    with pytest.raises(ProtocolError, match="Batch"):
        messages.decode(data, messages.Batch)


@pytest.mark.parametrize("sequence", [0, -1])
def test_a_row_counts_from_one(sequence):
    batch = messages.Batch(1, BATCH.epoch, STAMP, [messages.Row(sequence, b"")])
    with pytest.raises(ProtocolError):
        messages.decode(messages.encode(batch), messages.Batch)


def test_a_want_names_no_more_chunks_than_its_limit():
    data = messages.encode(messages.Want(["a1" * 32] * (limits.WANT_CHUNKS_MAX + 1)))
    with pytest.raises(ProtocolError, match=r"Want.*chunks"):
        messages.decode(data, messages.Want)


def test_a_report_for_more_slots_than_a_device_may_have_is_refused():
    slots = {f"slot-{i}": REPORT.slots["vision"] for i in range(limits.SLOTS_MAX + 1)}
    data = messages.encode(msgspec.structs.replace(REPORT, slots=slots))
    with pytest.raises(ProtocolError, match=r"Report.*slots"):
        messages.decode(data, messages.Report)


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (EVENT, "kind", "reboot"),
        (EVENT, "state", "on_fire"),
        (EVENT, "detail", "x" * (limits.EVENT_DETAIL_CHARS_MAX + 1)),
        (REPORT, "generation", "41"),
        (REPORT, "facts", None),
    ],
)
def test_a_bad_message_is_refused_by_the_field_at_fault(message, field, value):
    tree = msgspec.msgpack.decode(messages.encode(message))
    data = msgspec.msgpack.encode(tree | {field: value})
    with pytest.raises(ProtocolError, match=field):
        messages.decode(data, type(message))


def test_a_field_from_a_newer_device_is_ignored_so_that_old_hubs_keep_reading():
    tree = msgspec.msgpack.decode(messages.encode(REPORT))
    data = msgspec.msgpack.encode(tree | {"of_a_later_version": 1})
    assert messages.decode(data, messages.Report) == REPORT
