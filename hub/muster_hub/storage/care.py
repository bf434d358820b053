"""Many rows in one transaction, quick as long as none fails; then each by itself, to find which.

A step of the engine takes its rows together. When that fails for a reason that won't pass, it is
done again with care: every row within a savepoint, and one that fails is left out and named.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from sqlmodel import Session

from muster_hub.heartbeats import described
from muster_hub.storage import faults

NAMED_MAX = 100
Item = TypeVar("Item")
_log = logging.getLogger(__name__)


@dataclass
class Care:
    """How a step takes its rows. ``failed``: what was left out, by name, with the reason."""

    careful: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    def each(
        self,
        session: Session,
        items: Iterable[Item],
        work: Callable[[Item], None],
        name: Callable[[Item], str],
        set_aside: Callable[[Item, str], None] = lambda _item, _why: None,
        *,
        pure: bool = False,
    ) -> None:
        """``work`` for every item. With care what fails is undone, named and set aside; what passes
        is raised in any case. What is ``pure`` writes nothing that would have to be undone.
        """
        for item in items:
            if not self.careful:
                work(item)
                continue
            try:
                with nullcontext() if pure else session.begin_nested():
                    work(item)
            except Exception as error:
                if faults.passes(error):
                    raise
                self._leave_out(name(item), error)
                set_aside(item, described(error))

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """A block that writes nothing: with care what fails in it is named and left out."""
        try:
            yield
        except Exception as error:
            if not self.careful or faults.passes(error):
                raise
            self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        _log.error("%s is left out: it fails", name, exc_info=error)
        if len(self.failed) < NAMED_MAX:
            self.failed[name] = described(error)
