"""Windows to test with: a baseline with every kind of feature, and summaries against it."""

from functools import cache

import hypothesis.strategies as st
import numpy as np

from muster_protocol.signals import baseline, binning, features, histogram
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import LabelErrors, Summary, Tally
from muster_protocol.wire.messages import Stamp

MANIFEST = "ab" * 32
SPEC = (
    *features.elements("x", ["temperature", "pressure"]),
    features.Feature("valve", features.Element("x", 2), "boolean"),
    features.Feature("grade", features.Element("x", 3), "categorical"),
    *features.classifier("scores"),
)


@cache
def fitted() -> Baseline:
    return baseline.fit(rows(600, seed=11), SPEC)


def rows(n: int, *, seed: int, shift: float = 0.0, nulls: float = 0.0) -> dict[str, np.ndarray]:
    """``n`` rows of tensors ``x`` and ``scores``."""
    rng = np.random.default_rng(seed)
    x = np.stack(
        [
            rng.normal(20 + shift, 1, n),
            rng.exponential(1e4, n),
            rng.integers(0, 2, n),
            rng.choice([3, 5, 7, 11], n, p=[0.5, 0.3, 0.15, 0.05]),
        ],
        axis=1,
    )
    x[rng.random(x.shape) < nulls] = np.nan
    return {"x": x.astype(np.float32), "scores": rng.dirichlet([1, 2, 3], n).astype(np.float32)}


def stamp(seconds: float, boot: bytes = b"boot") -> Stamp:
    return Stamp(boot, seconds, 1.7e9 + seconds, "synchronised")


def window(
    n: int = 300, *, seed: int = 0, start: float = 0.0, shift: float = 0.0, nulls: float = 0.0
) -> Summary:
    """A window of ``n`` inferences; everything in it follows from the arguments."""
    rng = np.random.default_rng(seed)
    return of(rows(n, seed=seed, shift=shift, nulls=nulls), start=start, rng=rng)


def of(
    tensors: dict[str, np.ndarray], *, start: float = 0.0, rng: np.random.Generator | None = None
) -> Summary:
    rng = rng or np.random.default_rng(0)
    n = len(tensors["x"])
    right = int(rng.integers(0, 50))
    return Summary(
        "press",
        "1.2",
        MANIFEST,
        stamp(start),
        stamp(start + 300),
        counts=Tally(n, errors_run=int(rng.integers(0, 3)), labels_right=right),
        latency=histogram.count_latency(rng.lognormal(6, 1, n)),
        confidence=histogram.count_confidence(tensors["scores"].max(axis=1)),
        confusion={(0, 0): right} if right else {},
        label_errors=LabelErrors(1, float(rng.random()), float(rng.random())),
        cpu_seconds=float(rng.random()),
        features=binning.count(fitted(), tensors),
    )


windows = st.builds(
    window,
    st.integers(0, 400),
    seed=st.integers(0, 10_000),
    start=st.floats(0, 1e6),
    shift=st.sampled_from([0.0, 0.5, -3.0, 1e4]),
    nulls=st.sampled_from([0.0, 0.2, 1.0]),
)


def assert_same(a: Summary, b: Summary, *, moments: float = 1e-6) -> None:
    """Equal: counts exactly, moments within ``moments`` of what they are sums of."""
    assert (a.model, a.version, a.manifest) == (b.model, b.version, b.manifest)
    assert (a.opened, a.closed, a.windows) == (b.opened, b.closed, b.windows)
    assert a.counts == b.counts
    assert a.confusion == b.confusion
    np.testing.assert_array_equal(a.latency, b.latency)
    np.testing.assert_array_equal(a.confidence, b.confidence)
    np.testing.assert_allclose(a.cpu_seconds, b.cpu_seconds, rtol=moments)
    assert a.label_errors.count == b.label_errors.count
    np.testing.assert_allclose(a.label_errors.absolute, b.label_errors.absolute, rtol=moments)
    assert a.features is not None
    assert b.features is not None
    assert a.features.rows == b.features.rows
    np.testing.assert_array_equal(a.features.bins, b.features.bins)
    np.testing.assert_array_equal(a.features.nulls, b.features.nulls)
    center = a.features.baseline.mean
    std = np.maximum(np.nan_to_num(a.features.std()), 1e-9)
    scale = std + np.abs(np.nan_to_num(a.features.mean()) - center)
    for mine, theirs in [
        (a.features.mean(), b.features.mean()),
        (a.features.std(), b.features.std()),
        (a.features.low, b.features.low),
        (a.features.high, b.features.high),
    ]:
        # An extreme may lie many standard deviations out; it is rounded by its own distance.
        reach = np.maximum(scale, np.abs(np.where(np.isfinite(mine), mine - center, 0.0)))
        same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        with np.errstate(invalid="ignore"):
            assert (same | (np.abs(mine - theirs) <= moments * reach * 4)).all()
