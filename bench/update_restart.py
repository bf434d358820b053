"""The other way to a new model: stop the service and start it again on the new file.

A plain uvicorn service runs in our own environment, MLServer in one that the bench makes.
"""

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bench import signals_peers, update_client

from support.ports import free_port

HERE = Path(__file__).parent / "peers"
RESTARTS = 5
WARM_SECONDS = 3.0
START_SECONDS_MAX = 60.0
Samples = list[tuple[float, float, bool]]


def gap(samples: Samples, begun: float, until: float) -> float:
    """The longest time without a right answer between two instants, seconds."""
    answers = sorted(due + s for due, s, ok in samples if ok and begun < due + s < until)
    return max(b - a for a, b in pairwise([begun, *answers, until]))


def wait_answering(port: int) -> None:
    """Until the service has answered one question of ours."""
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until:
        try:
            client, stream = update_client.connect(str(port))
            with client, stream:
                client.sendall(update_client.question())
                if update_client.answered(stream):
                    return
        except OSError:
            time.sleep(0.05)  # the service is starting
    raise TimeoutError(f"the service on port {port} did not start")


def restart(name: str, models: list[Path], load: Any, rate: float) -> dict[str, Any]:
    """``load(address, rate)`` starts a client process; ``models`` take turns."""
    python = sys.executable if name == "plain_uvicorn" else signals_peers.interpreter("mlserver")
    port = free_port()

    def serve(number: int) -> "subprocess.Popen[bytes]":
        model = models[number % len(models)]
        return subprocess.Popen(
            [python, HERE / f"{name}.py", str(model), str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    service = serve(0)
    wait_answering(port)
    client = load(str(port), rate)
    times = []
    for number in range(1, RESTARTS + 1):
        time.sleep(WARM_SECONDS)  # the load runs steadily before each restart
        times.append(time.monotonic())
        service.terminate()
        service.wait(START_SECONDS_MAX)
        service = serve(number)
        wait_answering(port)
    time.sleep(WARM_SECONDS)  # and after the last
    times.append(time.monotonic())
    samples: Samples = client.end()
    service.terminate()
    service.wait(START_SECONDS_MAX)
    gaps = [gap(samples, a, b) for a, b in pairwise(times)]
    return {
        "restarts": RESTARTS,
        "failed_requests": sum(not ok for due, _, ok in samples if due > times[0]),
        "gap_ms_median": round(float(np.median(gaps)) * 1e3, 1),
        "gap_ms_max": round(max(gaps) * 1e3, 1),
    }
