"""Every signed message, mutated at random: no mutant is ever believed."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_agent.trust import Trusted, TrustRefused
from muster_protocol.directive import DirectiveRefused
from support.trust_device import TrustDevice
from support.tuf_repository import NOW, Repository

REPOSITORY = Repository()
DIGEST = REPOSITORY.release("digits", "1.0.0")
REPOSITORY.rotate_root("timestamp")
REPOSITORY.publish("targets", "model-digits")
FILES = dict(REPOSITORY.files)
NAMES = sorted(name for name in FILES if not name.startswith("1."))
DIRECTIVE = REPOSITORY.directive(generation=5)


@st.composite
def mutants(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with one to three bytes flipped, spans cut, doubled or replaced."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(len(made) - 1, 0)))
        end = min(len(made), start + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["flip", "cut", "double", "replace", "truncate"]))
        if kind == "flip" and made:
            made[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del made[start:end]
        elif kind == "double":
            made[start:start] = made[start:end]
        elif kind == "replace":
            made[start:end] = draw(st.binary(max_size=40))
        else:
            del made[start:]
    return bytes(made)


@given(st.data())
@settings(max_examples=80)
def test_no_mutated_metadata_is_believed_and_none_stops_the_next_update(
    data: st.DataObject,
) -> None:
    name = data.draw(st.sampled_from(NAMES))
    files = FILES | {name: data.draw(mutants(FILES[name]))}
    with tempfile.TemporaryDirectory() as directory:
        device = TrustDevice(Path(directory), REPOSITORY.factory_root)
        try:
            found = device.update(files).manifest_target("digits", "1.0.0", now=NOW)
        except TrustRefused:
            found = None
        # A mutant of what isn't signed (space, a spare signature) may pass: it says the same.
        assert found is None or found[0] == DIGEST
        versions = device.store.versions()
        whole = device.update(FILES)
        assert all(whole.versions[stem] >= version for stem, version in versions.items())
        found = whole.manifest_target("digits", "1.0.0", now=NOW)
        assert found is not None
        assert found[0] == DIGEST


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Trusted:
    return TrustDevice(tmp_path_factory.mktemp("device"), REPOSITORY.factory_root).update(FILES)


@given(mutant=mutants(DIRECTIVE))
@settings(max_examples=200)
def test_no_mutated_directive_is_believed(trusted: Trusted, mutant: bytes) -> None:
    honest = trusted.verify_directive(DIRECTIVE)
    try:
        believed = trusted.verify_directive(mutant)
    except DirectiveRefused:
        return
    assert believed == honest
