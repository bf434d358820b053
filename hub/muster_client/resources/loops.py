"""Loops: from drift over a training to a better model."""

from collections.abc import Iterator
from typing import cast

from muster_client.answers import Loop
from muster_client.resources.base import Resource


class Loops(Resource):
    """Loops by their numbers."""

    def list(self, limit: int | None = None) -> Iterator[Loop]:
        """Loops, the newest first."""
        return cast("Iterator[Loop]", self._api.pages("/loops", limit))

    def show(self, loop: int) -> Loop:
        """One loop, with each state it entered and why."""
        found: Loop = self._api.get(f"/loops/{loop}")
        return found

    def start(self, model: str, *, reason: str = "") -> Loop:
        """Open one by hand, without drift; budget, cool-down and approval count all the same."""
        found: Loop = self._api.post("/loops", {"model": model, "reason": reason})
        return found

    def approve(self, loop: int) -> Loop:
        """Let the training start."""
        found: Loop = self._api.post(f"/loops/{loop}/approve")
        return found

    def abandon(self, loop: int, *, reason: str = "") -> Loop:
        """End it. What the orchestrator runs is not stopped."""
        found: Loop = self._api.post(f"/loops/{loop}/abandon", {"reason": reason})
        return found

    def candidate(self, loop: int, version: str) -> Loop:
        """Say which version the training made: a pipeline's last step, after its push."""
        found: Loop = self._api.post(f"/loops/{loop}/candidate", {"version": version})
        return found
