"""The decision alone: a scope only ever takes away, and a role is asked before anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.access.acts import ACTS, HUB, LISTING, Actor, Object, may
from muster_hub.access.scope import Scope
from muster_protocol.wire import selectors

SELECTORS = ("", "site=berlin", "site=oslo", "site in (berlin,oslo)", "site=berlin,line=1")
scopes = st.builds(
    Scope,
    st.sampled_from([(), ("digits",), ("dig*", "pump"), ("pump",)]),
    st.sampled_from(SELECTORS).map(selectors.parse),
)
roles = st.sampled_from(["viewer", "operator", "releaser", "admin"])
things = st.one_of(
    st.sampled_from([HUB, LISTING]),
    st.builds(
        Object,
        st.sampled_from(["device", "model", "release", "devices", "alert"]),
        st.just("a thing"),
        model=st.sampled_from([None, "digits", "pump"]),
        labels=st.sampled_from([None, {}, {"site": "berlin"}, {"site": "oslo", "line": "1"}]),
        selector=st.sampled_from([None, *SELECTORS]),
        every_model=st.booleans(),
        every_device=st.booleans(),
    ),
)


@given(act=st.sampled_from(sorted(ACTS)), role=roles, scope=scopes, thing=things)
def test_a_scope_only_ever_takes_away(act, role, scope, thing):
    if thing.kind not in ACTS[act].on:
        return
    limited = may(Actor("a", role, scope), act, thing)
    free = may(Actor("a", role), act, thing)
    assert limited.refusal or not free.refusal
    assert bool(free.refusal) == (role not in ACTS[act].roles)
    if scope.everything:
        assert limited == free


@given(act=st.sampled_from(sorted(ACTS)), role=roles)
def test_a_role_that_may_not_is_told_so_whatever_it_asks_about(act, role):
    found = may(Actor("a", role), act)
    assert found.by_role == bool(found.refusal) == (role not in ACTS[act].roles)


def test_an_act_or_an_object_that_nobody_knows_is_an_error_and_no_refusal():
    with pytest.raises(KeyError):
        may(Actor("a", "admin"), "device.repaint")
    with pytest.raises(ValueError, match="never on a model"):
        may(Actor("a", "admin"), "device.revoke", Object("model", "digits", model="digits"))


def test_everybody_may_ask_who_they_are_however_limited():
    limited = Scope(("digits",), selectors.parse("site=berlin"))
    assert may(Actor("a", "viewer", limited), "whoami.read", HUB).refusal == ""
    assert may(Actor("a", "viewer", limited), "metrics.read", HUB).refusal
