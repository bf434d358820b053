"""What a second of processor time costs in energy: measured by RAPL, or as the operator says.

RAPL counts the joules of whole processor packages (Linux powercap,
https://docs.kernel.org/power/powercap/powercap.html), idle draw included. A worker's share is its
share of the processor time that everything on the machine used: an estimate, meant for trends and
comparisons between versions. Most kernels let only root read the counters.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

POWERCAP = Path("/sys/class/powercap")
PROC_STAT = Path("/proc/stat")
BUSY_SECONDS_MIN = 0.05
"""Less processor time than this says nothing of its price."""
EnergySource = Literal["rapl", "configured", ""]
"""How energy is estimated on a device; empty: it isn't."""


@dataclass(frozen=True)
class EnergyReading:
    """Counters at one moment."""

    joules: tuple[float, ...]
    """Of each package; they wrap around."""
    wraps_joules: tuple[float, ...]
    """Where each wraps."""
    busy_seconds: float
    """Processor time that everything on the machine has used since boot, over all cores."""


def joules_per_cpu_second(before: EnergyReading, after: EnergyReading) -> float | None:
    """None when the two readings can't be compared or too little ran between them."""
    busy = after.busy_seconds - before.busy_seconds
    if busy < BUSY_SECONDS_MIN or before.wraps_joules != after.wraps_joules:
        return None
    used = 0.0
    for first, second, wrap in zip(before.joules, after.joules, after.wraps_joules, strict=True):
        used += second - first if second >= first else second - first + wrap
    return used / busy if used >= 0 else None


class EnergyPrice:
    """Joules per second of processor time, as lately measured."""

    def __init__(
        self, read: Callable[[], EnergyReading | None], watts_per_core: float = 0.0
    ) -> None:
        """``watts_per_core`` is used where nothing can be read; 0: no estimate then."""
        self._read = read
        self._watts = watts_per_core
        self._before = read()
        self._price = 0.0

    @property
    def source(self) -> EnergySource:
        """Where the latest estimate comes from; empty when there is none."""
        if self._before is not None:
            return "rapl"
        return "configured" if self._watts else ""

    def now(self) -> float:
        """The price since it was last asked for; 0 while none is known."""
        if self._before is None:
            return self._watts
        after = self._read()
        if after is None:
            return self._price
        price = joules_per_cpu_second(self._before, after)
        if price is not None:
            self._before, self._price = after, price
        elif after.wraps_joules != self._before.wraps_joules:
            self._before = after
        return self._price


def read_rapl(powercap: Path = POWERCAP, proc_stat: Path = PROC_STAT) -> EnergyReading | None:
    """The machine's counters now; None where it has none or won't let us read them."""
    joules, wraps = [], []
    try:
        # intel-rapl:0 is a package (also on AMD), intel-rapl:0:1 a part of one.
        for package in sorted(powercap.glob("intel-rapl:*")):
            if package.name.count(":") == 1:
                joules.append(_microjoules(package / "energy_uj"))
                wraps.append(_microjoules(package / "max_energy_range_uj"))
        if not joules:
            return None
        return EnergyReading(tuple(joules), tuple(wraps), _busy_seconds(proc_stat.read_text()))
    except (OSError, ValueError):
        return None


def _microjoules(file: Path) -> float:
    return int(file.read_text()) / 1e6


def _busy_seconds(text: str) -> float:
    """Of proc(5)'s first line: all but idle and iowait, and guests, whom user time holds."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, text.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
