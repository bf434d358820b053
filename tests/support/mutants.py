"""Starts damaged models as a worker would, each in a child of its own.

``mutants.py RUNTIME COUNT SEED DIRECTORY`` prints a JSON object: outcome (a refusal, "ready" or
"killed by SIGNAL") to the number of mutants it befell. The runtime is imported once.
"""

import collections
import json
import os
import random
import shutil
import signal
import sys
import traceback
from pathlib import Path

from muster_agent import runtimes
from muster_agent.worker import main
from muster_agent.worker.bundle import StartRefused
from muster_agent.worker.control import Start
from muster_protocol import manifest
from muster_protocol.errors import Refusal
from support.models import dense_onnx, dense_tflite, weights, write_bundle

CPU_SECONDS = 2.0
WALL_SECONDS = 20
MEMORY_BYTES = 256 << 20
READY, FELL_OVER = 0, 1
CODES = {refusal: number for number, refusal in enumerate(sorted(Refusal), start=10)}
NAMES = {number: refusal for refusal, number in CODES.items()}


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


def outcome(bundle: Path, runtime: str, sha256: str) -> str:
    child = os.fork()
    if child == 0:
        signal.alarm(WALL_SECONDS)
        try:
            main.begin(
                Start(
                    supervisor=os.getppid(), bundle=str(bundle),
                    manifest_sha256=sha256, runtime=runtime,
                )
            )  # fmt: skip
        except StartRefused as refused:
            os._exit(CODES[refused.refusal])
        except MemoryError:
            os._exit(CODES[Refusal.NO_MEMORY])
        except BaseException:
            traceback.print_exc()
            os._exit(FELL_OVER)
        os._exit(READY)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    code = os.WEXITSTATUS(status)
    return "ready" if code == READY else NAMES.get(code, "fell over")


def run(runtime: str, count: int, seed: int, directory: Path) -> dict[str, int]:
    rng = random.Random(seed)
    whole = {"onnx": dense_onnx, "tflite": dense_tflite}[runtime](*weights())
    runtimes.prepare(runtime)
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(count + 1):
        model = mutated(whole, rng) if number else whole
        _, sha256 = write_bundle(
            directory, runtimes=(runtime,), files={runtime: model},
            memory_bytes=MEMORY_BYTES, start=manifest.Start(cpu_seconds=CPU_SECONDS),
        )  # fmt: skip
        if number:
            outcomes[outcome(directory, runtime, sha256)] += 1
        else:
            assert outcome(directory, runtime, sha256) == "ready", "the whole model must start"
        shutil.rmtree(directory)
    return dict(outcomes)


if __name__ == "__main__":
    kind, number, start, where = sys.argv[1:]
    print(json.dumps(run(kind, int(number), int(start), Path(where))))
