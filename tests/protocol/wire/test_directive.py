"""Directives: they survive the wire, and what a device adopts only ever moves forward."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.wire import directive, limits
from muster_protocol.wire.directive import DirectiveRefused, Source
from muster_protocol.wire.errors import ProtocolError, Refusal
from wire_samples import DIRECTIVE, directives, serials


@given(directives())
def test_a_directive_survives_the_wire_and_its_bytes_never_vary(value):
    payload = directive.encode(value)
    assert directive.decode(payload) == value
    assert directive.encode(directive.decode(payload)) == payload


def refusal_of(value, *, device="press-7", epoch=2, adopted=(2, 40), now=1_800_000_001):
    """Why ``accept`` refuses the directive, or None when it accepts."""
    try:
        directive.accept(value, device=device, epoch=epoch, adopted=adopted, now=now)
    except DirectiveRefused as error:
        return error.refusal
    return None


def test_a_newer_directive_for_this_device_is_accepted():
    assert refusal_of(DIRECTIVE) is None


def test_the_same_generation_again_is_accepted_because_adopting_it_changes_nothing():
    assert refusal_of(DIRECTIVE, adopted=(2, 41)) is None


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        ({"device": "press-8"}, Refusal.WRONG_DEVICE),
        ({"epoch": 1}, Refusal.STALE_EPOCH),
        ({"epoch": 3}, Refusal.STALE_EPOCH),
        ({"adopted": (2, 42)}, Refusal.STALE_GENERATION),
        ({"adopted": (3, 1)}, Refusal.STALE_GENERATION),
        ({"now": DIRECTIVE.expires}, Refusal.EXPIRED),
    ],
)
def test_a_device_refuses_a_directive_and_names_why(facts, refusal):
    assert refusal_of(DIRECTIVE, **facts) == refusal


def test_a_directive_is_adopted_until_the_second_before_it_expires():
    assert refusal_of(DIRECTIVE, now=DIRECTIVE.expires - 1) is None


def test_a_new_director_epoch_begins_again_at_generation_one():
    restored = msgspec.structs.replace(DIRECTIVE, epoch=3, generation=1)
    assert refusal_of(restored, epoch=3, adopted=(2, 2**53 - 1)) is None


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6))), st.data())
def test_whatever_arrives_in_whatever_order_the_adopted_directive_never_goes_back(arrivals, data):
    adopted, signed_epoch = (0, 0), 1
    for epoch, generation in arrivals:
        signed_epoch = max(signed_epoch, data.draw(st.integers(1, 4)))
        value = msgspec.structs.replace(DIRECTIVE, epoch=epoch, generation=generation)
        if refusal_of(value, epoch=signed_epoch, adopted=adopted) is None:
            assert epoch == signed_epoch
            assert (epoch, generation) >= adopted
            adopted = (epoch, generation)


@given(serials, serials, serials)
def test_of_two_directives_of_one_epoch_only_the_newer_can_follow_the_other(epoch, item, other):
    first = msgspec.structs.replace(DIRECTIVE, epoch=epoch, generation=item)
    second = msgspec.structs.replace(DIRECTIVE, epoch=epoch, generation=other)
    follows = refusal_of(second, epoch=epoch, adopted=(epoch, item)) is None
    precedes = refusal_of(first, epoch=epoch, adopted=(epoch, other)) is None
    assert (follows and precedes) == (item == other)
    assert follows == (other >= item)


@pytest.mark.parametrize(
    ("changes", "refusal", "named"),
    [
        ({"format": 2}, Refusal.UNKNOWN_FORMAT, "upgrade the agent"),
        ({"device": "../x"}, Refusal.MALFORMED, "device id"),
        ({"generation": 0}, Refusal.MALFORMED, "generation"),
        ({"generation": 2**53}, Refusal.MALFORMED, "generation"),
        ({"epoch": 2**63}, Refusal.MALFORMED, "epoch"),
        ({"window_seconds": 0.5}, Refusal.MALFORMED, "window_seconds"),
        ({"window_seconds": 90_000}, Refusal.MALFORMED, "window_seconds"),
        ({"slots": {"UP": {}}}, Refusal.MALFORMED, "champion"),
        ({"sources": [{"url": "file:///etc"}]}, Refusal.MALFORMED, "url"),
        ({"command": "reboot"}, Refusal.MALFORMED, "command"),
    ],
)
def test_a_bad_directive_is_refused_by_the_field_at_fault(changes, refusal, named):
    payload = msgspec.json.encode(msgspec.to_builtins(DIRECTIVE) | changes)
    with pytest.raises(DirectiveRefused, match=named) as caught:
        directive.decode(payload)
    assert caught.value.refusal == refusal


def test_a_slot_name_that_could_not_be_a_path_is_refused():
    slots = {"../vision": DIRECTIVE.slots["vision"]}
    with pytest.raises(ProtocolError, match="slot"):
        directive.encode(msgspec.structs.replace(DIRECTIVE, slots=slots))


def test_a_directive_over_the_limit_is_refused_on_both_sides():
    payload = directive.encode(DIRECTIVE)
    with pytest.raises(DirectiveRefused, match="limit") as caught:
        directive.decode(payload + b" " * limits.DIRECTIVE_BYTES_MAX)
    assert caught.value.refusal == Refusal.TOO_LARGE
    too_many = tuple(Source("https://hub.example", "x" * 512) for _ in range(5))
    with pytest.raises(ProtocolError, match="sources"):
        directive.encode(msgspec.structs.replace(DIRECTIVE, sources=too_many))


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b'{"format":"1"}'])
def test_bytes_that_are_no_directive_are_malformed(payload):
    with pytest.raises(DirectiveRefused) as caught:
        directive.decode(payload)
    assert caught.value.refusal == Refusal.MALFORMED
