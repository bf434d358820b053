"""A plant whose devices send windows that the test writes."""

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from sqlmodel import update

from muster_hub.rollouts import reading
from muster_hub.storage import models
from support.hub_engine import SLOT, Plant

WINDOW = 300.0
PAST_WINDOWS = 12
GATE = {"metrics": ["errors", "p95 latency"], "looks": 16, "past_seconds": PAST_WINDOWS * WINDOW}
"""Of a plan: ends within the windows a test can write."""


class Fleet(Plant):
    """A plant of 90 devices whose windows the test writes: errors and latency by release."""

    def __init__(self, directory: Path, url: str | None, devices: int = 90) -> None:
        super().__init__(directory, url=url)
        self.names = tuple(f"p{n:03}" for n in range(devices))
        with self.store.write() as session:
            session.add_all(
                models.Device(
                    id=name, created=0.0, online=True, last_seen=self.now,
                    labels={"line": "ab"[n % 2]},
                )
                for n, name in enumerate(self.names)
            )  # fmt: skip
        self.publish("1")
        self.publish("2")
        self.rng = np.random.default_rng(7)
        self.sequence = 0
        number = self.start("1")
        self.tick()
        self.all_report("1")
        self.tick()
        assert self.rollout(number).state == "completed"
        for _ in range(PAST_WINDOWS):
            self.windows(lambda _: 1.0)

    def all_report(self, version: str) -> list[str]:
        """Every device that is asked for ``version`` says it has committed."""
        asked = [name for name, held in self.versions().items() if held == version]
        for name in asked:
            self.report(name, version)
        return asked

    def windows(self, harm: Callable[[str], float], quiet: Collection[str] = ()) -> None:
        """One window passes: each device sends what it counted; ``harm`` multiplies errors."""
        goals = {name: held.slots[SLOT].champion for name, held in self.directives().items()}
        self.now += WINDOW
        rows = []
        for name in self.names:
            if name in quiet:
                continue
            self.sequence += 1
            runs = goals[name]
            rows.append(
                models.SummaryWindow(
                    device=name, epoch="00" * 8, sequence=self.sequence, model="digits",
                    version=runs.version, manifest=runs.manifest,
                    start=self.now - WINDOW, seconds=WINDOW, n=1000,
                    errors=int(self.rng.poisson(20 * harm(runs.version))),
                    log_p95=math.log(0.010) + 0.02 * float(self.rng.normal()),
                    received=self.now, payload=b"", folded=True,
                )
            )  # fmt: skip
        with self.store.write() as session:
            session.add_all(rows)
            session.exec(update(models.Device).values(last_seen=self.now))

    def view(self, number: int) -> dict[str, Any]:
        with self.store.read() as session:
            return reading.rollout(session, number, self.now)
