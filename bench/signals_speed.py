"""What folding, merging, sending and recording cost here."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench.peers.timing import best

from muster_agent.worker.recorder import Recorder
from muster_agent.worker.ring import Ring
from muster_agent.worker.rows import RingLayout
from muster_protocol.signals import (
    binning,
    features,
    histogram,
    learning,
    summary,
    summary_wire,
)
from muster_protocol.signals.learning import InTime
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire.messages import Stamp
from muster_protocol.wire.tensors import Tensor

ROWS, FEATURES = 3000, 50


def window(rng: np.random.Generator) -> tuple[Summary, dict[str, np.ndarray[Any, Any]]]:
    """A window of 3000 × 50 normal values as a device would send it, by a baseline in time."""
    x = rng.normal(size=(100_000, FEATURES)).astype(np.float32)
    trained = learning.fit({"x": x}, features.elements("x", FEATURES), InTime(ROWS, 300.0))
    tensors = {"x": rng.normal(size=(ROWS, FEATURES)).astype(np.float32)}
    boot = rng.bytes(16)
    opened = Stamp(boot, 1234.5678, 1.7e9 + 0.25, "synchronised")
    made = Summary(
        "pump-anomaly",
        "1.4.2",
        rng.bytes(32).hex(),
        opened,
        Stamp(boot, 1534.5801, 1.7e9 + 300.2623, "synchronised"),
        counts=Tally(inferences=ROWS),
        latency=histogram.count_latency(rng.lognormal(5, 0.3, ROWS)),
        cpu_seconds=1.234,
        features=binning.count(trained, tensors),
    )
    return made, tensors


def recording() -> dict[str, float]:
    """What recording one inference of 30 inputs and 2 outputs costs its worker."""
    layout = RingLayout(
        manifest="ab" * 32,
        inputs=(Tensor("x", "FP32", (-1, 30)),),
        outputs=(Tensor("y", "FP32", (-1, 2)),),
    )
    inputs = {"x": np.zeros((1, 30), np.float32)}
    outputs = {"y": np.zeros((1, 2), np.float32)}
    weights = np.zeros((30, 2), np.float32)

    def bare() -> None:
        outputs["y"] = np.tanh(inputs["x"] @ weights)

    with tempfile.TemporaryDirectory() as directory:
        ring = Ring.create(Path(directory) / "bench.ring", layout, 65_536)
        recorder = Recorder(ring, layout)

        def recorded() -> None:
            bare()
            recorder.answered("", 1, inputs, outputs, 0, 1_000_000)

        # Alternately, so that both meet the same noise.
        pairs = [(best(bare, 1), best(recorded, 1)) for _ in range(7)]
        ring.close()
    alone, together = (min(column) for column in zip(*pairs, strict=True))
    return {"bare_run_microseconds": alone * 1e6, "recorded_run_microseconds": together * 1e6}


def speeds(seed: int) -> dict[str, float]:
    made, tensors = window(np.random.default_rng(seed))
    counted = made.features
    assert counted is not None
    trained = counted.baseline
    payload = summary_wire.encode(made)
    headless = len(payload) - len(summary_wire.encode(replace(made, features=None)))
    return {
        "fold_values_per_second": ROWS * FEATURES / best(lambda: binning.count(trained, tensors)),
        "merge_features_microseconds": best(lambda: counted + counted) * 1e6,
        "merge_summary_microseconds": best(lambda: summary.merge(made, made)) * 1e6,
        "encode_microseconds": best(lambda: summary_wire.encode(made)) * 1e6,
        "decode_microseconds": best(lambda: summary_wire.decode(payload, trained)) * 1e6,
        "summary_bytes": len(payload),
        "bytes_per_feature": len(payload) / FEATURES,
        "bytes_per_feature_without_head": headless / FEATURES,
    } | recording()
