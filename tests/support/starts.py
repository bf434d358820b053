"""Starts bundles as a worker would, each in a child of its own.

``starts.py RUNTIME`` reads a JSON list of [directory, manifest SHA-256] and prints a JSON object:
outcome (a refusal, "ready" or "killed by SIGNAL") to the number of bundles it befell. It needs
nothing but the agent and a runtime, which is imported once.
"""

import collections
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from muster_agent import runtimes
from muster_agent.isolation.cage import Cage, Rung
from muster_agent.worker import begin
from muster_agent.worker.bundle import StartRefused
from muster_agent.worker.control import Start
from muster_protocol.wire.errors import Refusal

WALL_SECONDS = 20
READY, FELL_OVER = 0, 1
CODES = {refusal: number for number, refusal in enumerate(sorted(Refusal), start=10)}
NAMES = {number: refusal for refusal, number in CODES.items()}


def outcome(bundle: Path, runtime: str, sha256: str) -> str:
    child = os.fork()
    if child == 0:
        signal.alarm(WALL_SECONDS)
        try:
            start = Start(
                supervisor=os.getppid(), bundle=str(bundle),
                manifest_sha256=sha256, runtime=runtime,
            )  # fmt: skip
            begin.prove(start, begin.open_all(start), Cage(Rung.NONE))
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


if __name__ == "__main__":
    runtimes.prepare(sys.argv[1])
    bundles = json.load(sys.stdin)
    print(json.dumps(collections.Counter(outcome(Path(b), sys.argv[1], sha) for b, sha in bundles)))
