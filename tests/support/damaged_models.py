"""Starts damaged models as a worker would, each in a child of its own.

``damaged_models.py RUNTIME COUNT SEED DIRECTORY`` prints a JSON object: outcome (a refusal, "ready"
or "killed by SIGNAL") to the number of models it befell. The runtime is imported once.
"""

import collections
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

from muster_agent import runtimes
from muster_protocol.wire import manifest
from support.models import dense_onnx, dense_tflite, weights, write_bundle
from support.starts import outcome

CPU_SECONDS = 2.0
MEMORY_BYTES = 256 << 20


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` with flipped bits, cut short, or with a piece of itself in another place."""
    kind = rng.randrange(4)
    made = bytearray(data)
    if kind == 0:
        return bytes(made[: rng.randrange(len(made))])
    if kind == 1:
        size = rng.randrange(1, 64)
        source, target = (rng.randrange(len(made) - size) for _ in range(2))
        made[target : target + size] = data[source : source + size]
    elif kind == 2:
        at = rng.randrange(len(made))
        made[at:at] = rng.randbytes(rng.randrange(1, 64))
    else:
        for _ in range(rng.choice((1, 1, 2, 8, 32))):
            made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def bundle_of(directory: Path, runtime: Any, model: bytes) -> str:
    """Write a bundle around a model's bytes; its manifest's SHA-256."""
    return write_bundle(
        directory, runtimes=(runtime,), files={runtime: model},
        memory_bytes=MEMORY_BYTES, start=manifest.Start(cpu_seconds=CPU_SECONDS),
    )[1]  # fmt: skip


def run(runtime: str, count: int, seed: int, directory: Path) -> dict[str, int]:
    rng = random.Random(seed)
    whole = {"onnx": dense_onnx, "tflite": dense_tflite}[runtime](*weights())
    runtimes.prepare(runtime)
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(count + 1):
        model = mutated(whole, rng) if number else whole
        sha256 = bundle_of(directory, runtime, model)
        if number:
            outcomes[outcome(directory, runtime, sha256)] += 1
        else:
            assert outcome(directory, runtime, sha256) == "ready", "the whole model must start"
        shutil.rmtree(directory)
    return dict(outcomes)


if __name__ == "__main__":
    kind, number, start, where = sys.argv[1:]
    print(json.dumps(run(kind, int(number), int(start), Path(where))))
