"""Assignments: which version devices have in a slot."""

from collections.abc import Iterator
from typing import cast

from muster_client.answers import Assignment
from muster_client.resources.base import Resource


class Assignments(Resource):
    """Assignments by their numbers."""

    def list(self, limit: int | None = None) -> Iterator[Assignment]:
        """Assignments by number, those that rollouts made included; all when ``limit`` is None."""
        return cast("Iterator[Assignment]", self._api.pages("/assignments", limit))

    def show(self, assignment: int) -> Assignment:
        """An assignment by its number."""
        found: Assignment = self._api.get(f"/assignments/{assignment}")
        return found

    def remove(self, assignment: int) -> None:
        """Withdraw it. Devices follow the next one that matches; without any a slot goes on."""
        self._api.delete(f"/assignments/{assignment}")
