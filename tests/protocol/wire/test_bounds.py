"""Every number and text of the protocol has bounds, in the schema, and both sides hold to them."""

import msgspec
import pytest
from msgspec import inspect

from muster_protocol.signals import baseline, summary_wire
from muster_protocol.wire import bounds, directive, limits, manifest, messages
from muster_protocol.wire.errors import ProtocolError
from support.schema import DIRTY, at_bounds, beyond, leaves, replaced, unbounded
from wire_samples import DIRECTIVE, MANIFEST, MESSAGES

KINDS = {kind.__name__: kind for kind in messages._LIMIT_BYTES}
SCHEMAS = KINDS | {
    "Directive": directive.Directive,
    "Manifest": manifest.Manifest,
    "summary": summary_wire.SENT,
    "merged summary": summary_wire.MERGED,
    "parts of a summary": summary_wire._Parts,
    "baseline": baseline._File,
}
SAMPLES = {type(message).__name__: message for message in MESSAGES.values()}
REPORT = SAMPLES["Report"]


ANY_CHARACTERS = ["baseline.2.[].1.[]: a text of any length, or of any characters"]
"""A category of training data: compared with the data's own, never shown."""


def test_no_message_has_an_unbounded_number_or_text():
    assert unbounded(SCHEMAS) == ANY_CHARACTERS


def test_an_unbounded_number_would_be_found():
    class Careless(msgspec.Struct):
        count: int
        share: float
        name: str

    assert len(unbounded({"Careless": Careless})) == 3


def filled(kind: str):
    """A message of this kind as plain values, with an entry in every list and map."""
    tree = msgspec.msgpack.decode(messages.encode(SAMPLES[kind]))
    if kind == "Report":
        slot = tree["slots"]["vision"]
        slot["running"]["providers"] = ["CPU"]
        tree["facts"]["providers"] = {"onnx": ["CPU"]}
        tree["facts"]["agent_update"] = {"state": "idle"}
        tree["feeds"] = {
            "press": {
                "slot": "vision", "counts": {"rows": 1},
                "answer": {"quality": "good", "basis": "model"},
                "signals": [{"feature": "flow", "signal": "flow", "quality": "good"}],
                "sources": {"plc": {"counts": {"reads": 1}}},
                "sinks": {"mes": {"counts": {"sent": 1}}},
            }
        }  # fmt: skip
        slot["challenger"] = {
            "state": "comparing", "model": "digits", "version": "2", "manifest": "ab" * 32,
        }  # fmt: skip
    return tree


def refuses(data: bytes, kind: type) -> bool:
    try:
        messages.decode(data, kind)
    except ProtocolError:
        return True
    return False


LEAVES = [(name, at, info) for name, kind in KINDS.items() for at, info in leaves(kind)]


def test_a_message_takes_its_bounds_and_nothing_beyond(record_property):
    tried = 0
    for name, at, info in LEAVES:
        kind, tree = KINDS[name], filled(name)
        for value in at_bounds(info):
            data = msgspec.msgpack.encode(replaced(tree, at, value))
            if len(data) <= messages._LIMIT_BYTES[kind]:
                messages.decode(data, kind)
                tried += 1
        for value in beyond(info):
            data = msgspec.msgpack.encode(replaced(tree, at, value))
            assert refuses(data, kind), f"{name}.{at} takes {value!r}"
            tried += 1
    assert tried > 400
    record_property("tried", f"{tried} values at and beyond the bounds of messages")


TEXTS = [(name, at) for name, at, info in LEAVES if isinstance(info, inspect.StrType)]


@pytest.mark.parametrize("dirty", DIRTY)
def test_what_steers_a_terminal_or_deceives_a_reader_comes_cleaned(dirty):
    for name, at in TEXTS:
        data = msgspec.msgpack.encode(replaced(filled(name), at, dirty))
        message = messages.decode(data, KINDS[name])
        texts = repr(msgspec.to_builtins(message))
        assert not any(char in texts for char in ("\\x00", "\\x1b", "\\x9b", "\\u202e", "\\u2066"))


def test_a_device_sends_its_texts_clean():
    message = msgspec.structs.replace(
        REPORT, refusal_detail="onnxruntime: \x1b[31mbad\x1b[0m\r\nx\0"
    )
    sent = messages.decode(messages.encode(message), messages.Report)
    assert sent.refusal_detail == "onnxruntime: \ufffd[31mbad\ufffd[0m\nx\ufffd"


@pytest.mark.parametrize("text", ["Überdruck", "多行\n文字", "a\tb", "\U0001f600", "שלום", "مرحبا"])
def test_people_may_write_in_their_own_language(text):
    message = msgspec.structs.replace(REPORT, refusal_detail=text)
    assert messages.decode(messages.encode(message), messages.Report).refusal_detail == text


@pytest.mark.parametrize("dirty", ["a\0", "\x1b[2J", "\u202e"])
def test_what_is_signed_is_refused_not_cleaned(dirty):
    lineage = msgspec.structs.replace(MANIFEST.lineage, notes=dirty)
    with pytest.raises(ProtocolError, match="notes"):
        manifest.encode(msgspec.structs.replace(MANIFEST, lineage=lineage))
    slot = msgspec.structs.replace(DIRECTIVE.slots["vision"], fallback=dirty)
    with pytest.raises(ProtocolError, match="fallback"):
        directive.encode(msgspec.structs.replace(DIRECTIVE, slots={"vision": slot}))


@pytest.mark.parametrize(
    "value",
    [2**53 + 1, -(2**53) - 1, float("nan"), float("inf"), 1e200, "a\0", "\ud800", "\x1b[2J"],
)
def test_what_has_no_schema_is_held_to_the_same_bounds(value):
    for tree in (value, [value], {"plan": {"waves": [{"share": value}]}}):
        with pytest.raises(ProtocolError):
            bounds.check_plain(tree)


def test_values_within_values_end_somewhere():
    tree: object = 1
    for _ in range(limits.NESTING_MAX):
        tree = [tree]
    bounds.check_plain(tree)
    with pytest.raises(ProtocolError, match="nested"):
        bounds.check_plain([tree])
