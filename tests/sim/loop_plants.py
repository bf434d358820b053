"""Bugs of loops planted on purpose: what a careless hub would be given, or would do instead."""

import itertools
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from muster_hub.loop import loops
from muster_hub.loop.pipelines.base import Order
from muster_hub.loop.trainings import Trainings
from muster_hub.settings.loop import LoopTerms
from muster_hub.storage.registry import LoopRow
from sim.loop_world import LoopDoubles


class KeyForEachAttempt(Trainings):
    """The orchestrator can't tell a repeat from another order."""

    _attempts = itertools.count()

    def _order(self, row: LoopRow) -> Order:
        order = super()._order(row)
        return Order(f"{order.key}-{next(self._attempts)}", order.body, order.at)


def begin_beside(session: Any, terms: LoopTerms, *, reason: str, by: str, now: float) -> LoopRow:
    """That a loop is open already is not looked at."""
    if loops.open_of(session, terms.model) is None:
        return loops.start(session, terms, reason=reason, by=by, now=now)
    return loops.begin(session, terms, cause=reason, by=by, now=now, detail={})


def _with(**fields: Any) -> LoopDoubles:
    changed: Callable[[LoopTerms], LoopTerms] = lambda terms: replace(terms, **fields)  # noqa: E731 - of the type named
    return LoopDoubles(terms=changed)


LOOP_PLANTS = {
    "cool-down forgotten": _with(cooldown_seconds=0.0),
    "budget forgotten": _with(runs_per_30_days=1000),
    "training without deadline": _with(training_seconds=1e9),
    "nobody asked to approve": _with(approval=False),
    "a training for each attempt": LoopDoubles(trainings=KeyForEachAttempt),
    "opened beside another": LoopDoubles(start=begin_beside),
}
"""By name; each is found by another promise."""
