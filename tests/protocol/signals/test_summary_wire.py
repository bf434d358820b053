"""Summaries as bytes: they come back, stay small, and bad ones are refused in words."""

import json
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from muster_protocol.signals import baseline, binning, features, summary, summary_wire
from muster_protocol.signals.summary import Summary
from muster_protocol.signals.summary_wire import Header, Unknown
from muster_protocol.wire.errors import LimitError, ProtocolError
from support.summaries import assert_same, fitted, window, windows

GOLDEN = Path(__file__).parents[2] / "golden"
MOMENTS = 2.0**-9
"""Extremes keep 8 bits after the leading one, means and variances 12."""


def back(payload: bytes) -> Summary:
    decoded = summary_wire.decode(payload, fitted())
    assert isinstance(decoded, Summary)
    return decoded


@settings(max_examples=60, deadline=None)
@given(windows)
def test_a_summary_comes_back(original: Summary) -> None:
    payload = summary_wire.encode(original)
    decoded = back(payload)
    assert_same(original, decoded, moments=MOMENTS)
    assert_same(decoded, back(summary_wire.encode(decoded)), moments=1e-9)


@settings(max_examples=30, deadline=None)
@given(windows)
def test_an_open_window_comes_back_exactly(original: Summary) -> None:
    assert_same(original, back(summary_wire.encode(original, exact=True)), moments=1e-15)


@settings(max_examples=20, deadline=None)
@given(windows, windows)
def test_counts_merge_exactly_on_either_side_of_the_wire(a: Summary, b: Summary) -> None:
    home = summary.merge(back(summary_wire.encode(a)), back(summary_wire.encode(b)))
    assert home.counts == summary.merge(a, b).counts
    assert a.features is not None
    assert b.features is not None
    assert home.features is not None
    np.testing.assert_array_equal(home.features.bins, a.features.bins + b.features.bins)


def test_a_window_far_from_its_baseline_comes_back() -> None:
    far = window(100_000, seed=4, shift=50.0)
    assert_same(far, back(summary_wire.encode(far)), moments=MOMENTS)


def test_the_head_can_be_read_without_the_baseline() -> None:
    original = window(120, seed=3)
    header = summary_wire.peek(summary_wire.encode(original))
    assert isinstance(header, Header)
    assert header.summary.counts == original.counts
    assert header.summary.opened == original.opened
    assert header.rows == 120
    assert fitted().digest.startswith(header.baseline)
    bare = summary_wire.peek(summary_wire.encode(replace(original, features=None)))
    assert isinstance(bare, Header)
    assert (bare.rows, bare.baseline) == (0, "")


def test_a_later_version_is_kept_not_dropped() -> None:
    payload = b"\x09 something this code has never seen"
    assert summary_wire.decode(payload, fitted()) == Unknown(9, payload)
    assert summary_wire.peek(payload) == Unknown(9, payload)


def test_the_wrong_baseline_is_refused() -> None:
    payload = summary_wire.encode(window())
    other = baseline.fit({"x": np.ones((9, 1))}, features.elements("x", 1))
    with pytest.raises(ProtocolError, match=f"needs the baseline whose hash .*{other.digest[:16]}"):
        summary_wire.decode(payload, other)
    with pytest.raises(ProtocolError, match="none was given"):
        summary_wire.decode(payload, None)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_not_believed(noise: bytes) -> None:
    payload = bytes([summary_wire.VERSION]) + noise
    with pytest.raises(ProtocolError):
        summary_wire.decode(payload, fitted())


@settings(deadline=None)
@given(st.data())
def test_an_altered_summary_is_refused_or_still_adds_up(data: st.DataObject) -> None:
    payload = bytearray(summary_wire.encode(window(200, seed=2)))
    place = data.draw(st.integers(1, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    try:
        decoded = back(bytes(payload))
    except ProtocolError:
        return
    assert decoded.features is not None
    assert (decoded.features.bins >= 0).all()
    assert (decoded.features.bins.sum(axis=1) == decoded.features.values).all()


def test_fifty_features_of_three_thousand_rows_take_at_most_32_bytes_each() -> None:
    rng = np.random.default_rng(0)
    spec = features.elements("x", 50)
    trained = baseline.fit({"x": rng.normal(size=(50_000, 50))}, spec)
    counted = binning.count(trained, {"x": rng.normal(size=(3000, 50)).astype(np.float32)})
    size = len(summary_wire.encode(replace(window(3000), features=counted)))
    assert size / 50 <= 32


def test_too_many_rows_for_exact_expectations_are_refused() -> None:
    counts = binning.empty(fitted())
    with pytest.raises(LimitError, match="rows in one summary"):
        summary_wire.encode(replace(window(), features=replace(counts, rows=2**39)))


def test_frozen_summaries_still_mean_the_same() -> None:
    """Written by ``tests/golden/write_summary.py``; a failure breaks devices in the field."""
    frozen = baseline.decode((GOLDEN / "summary_baseline_v1.bin").read_bytes())
    want = json.loads((GOLDEN / "summary_v1.json").read_text())
    decoded = summary_wire.decode((GOLDEN / "summary_v1.bin").read_bytes(), frozen)
    assert isinstance(decoded, Summary)
    assert decoded.features is not None
    assert frozen.digest == want["baseline"]
    counts = list(decoded.counts.values())
    assert counts[: len(want["counts"])] == want["counts"]
    assert not any(counts[len(want["counts"]) :]), "counts that were added since"
    assert decoded.latency.nonzero()[0].tolist() == want["latency_bins"]
    assert decoded.features.bins.tolist() == want["bins"]
    assert decoded.features.nulls.tolist() == want["nulls"]
    np.testing.assert_allclose(decoded.features.total, want["total"], rtol=1e-12)
    np.testing.assert_allclose(decoded.features.squares, want["squares"], rtol=1e-12)
    np.testing.assert_allclose(decoded.features.low[:2], want["low"], rtol=1e-12)
    assert sorted(map(list, decoded.confusion.items())) == [
        [tuple(pair), n] for pair, n in want["confusion"]
    ]
    again = summary_wire.decode(summary_wire.encode(decoded), frozen)
    assert isinstance(again, Summary)
    assert again.features is not None
    np.testing.assert_array_equal(again.features.bins, decoded.features.bins)
