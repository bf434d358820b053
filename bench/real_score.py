"""How a rule's flags on one run are scored.

- *opening*: a normal window in which the operator is told something new (an alert opens, or a
  finding joins one);
- *standing*: a normal window in which any finding is open;
- *found anew*: in the event the operator is told something that was not open in the window before
  it; its delay in windows. Windows in a row with an event are one event.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
CLEAR_WINDOWS = 3
"""Windows without a flag after which a peer's finding is over, as Muster's."""


@dataclass
class Score:
    """Of one or several runs."""

    normal: int = 0
    openings: int = 0
    standing: int = 0
    events: int = 0
    delays: list[int] = field(default_factory=list)
    """Of the events that were found anew."""

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.normal + other.normal, self.openings + other.openings,
            self.standing + other.standing, self.events + other.events,
            self.delays + other.delays,
        )  # fmt: skip

    def row(self) -> dict[str, Any]:
        return {
            "normal_windows": self.normal,
            "openings": self.openings,
            "openings_per_1000": 1000 * self.openings / max(self.normal, 1),
            "standing": self.standing / max(self.normal, 1),
            "events": self.events,
            "found": len(self.delays),
            "median_delay": float(np.median(self.delays)) if self.delays else None,
        }


def scored(opened: Flags, standing: Flags, events: Flags) -> Score:
    """[windows] each: something new was told; something stood; something is labelled as wrong."""
    normal = ~events
    edges = np.flatnonzero(np.diff(np.concatenate([[False], events, [False]]).astype(int)))
    delays = []
    for begin, end in edges.reshape(-1, 2).tolist():
        new = np.flatnonzero(opened[begin:end])
        delays += [int(new[0]) + 1] if len(new) else []
    return Score(
        int(normal.sum()), int((opened & normal).sum()), int((standing & normal).sum()),
        len(edges) // 2, delays,
    )  # fmt: skip


def findings(flags: Flags) -> tuple[Flags, Flags]:
    """Openings and standing of flags [windows, findings]: each stands until it has been silent for
    ``CLEAR_WINDOWS``."""
    windows = len(flags)
    quiet = np.full(flags.shape[1], CLEAR_WINDOWS)
    opened, standing = np.zeros(windows, np.bool_), np.zeros(windows, np.bool_)
    for window, now in enumerate(flags):
        opened[window] = bool((now & (quiet >= CLEAR_WINDOWS)).any())
        quiet = np.where(now, 0, quiet + 1)
        standing[window] = bool((quiet < CLEAR_WINDOWS).any())
    return opened, standing
