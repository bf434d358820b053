"""What devices' reports and silence say of troubles, worked out anew only where it changed."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from muster_hub.alerts import grouping, rules
from muster_hub.alerts.notices import LABEL_SITE
from muster_hub.alerts.rules import Condition
from muster_hub.fleet.known import Known
from muster_hub.storage.care import Care

SILENT_SECONDS = 300.0


class Troubles:
    """``look`` brings the picture up to date with the devices that changed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Work out everything anew the next time."""
        self._refused: dict[str, list[Condition]] = {}
        self._starved: dict[str, list[Condition]] = {}
        self._running: dict[str, frozenset[str]] = {}
        self._heard: list[tuple[float, str]] = []
        """A heap of when devices were heard of, each time."""
        self._last: dict[str, float] = {}
        self._sites: dict[str, str] = {}
        self._active: Counter[str] = Counter()
        self._silent: set[str] = set()

    def runs(self, device: str, manifest: str) -> bool:
        """Whether a device says that it runs a version now."""
        return manifest in self._running.get(device, ())

    def look(self, known: Mapping[str, Known], changed: Iterable[str], care: Care) -> None:
        """Judge the reports that changed. With care a device whose report can't be judged is left
        out."""

        def judge(name: str) -> None:
            self._drop(name)
            device = known.get(name)
            if device is not None and device.active:
                self._take(device)

        for name in changed:
            with care.alone(f"the report of {name}"):
                judge(name)

    def silent(self, device: str | None, now: float) -> bool:
        """Whether a device has said nothing for too long; of none: whether that can't be told."""
        return device is None or now - self._last.get(device, now) >= SILENT_SECONDS

    def conditions(
        self, standing: Collection[str], now: float, *, judges_silence: bool
    ) -> list[Condition]:
        """Troubles that are present; ``standing``: keys of alerts that aren't resolved."""
        refused = [item for listed in self._refused.values() for item in listed]
        found = grouping.refusals(refused, standing)
        found += [item for listed in self._starved.values() for item in listed]
        if not judges_silence:
            return found
        while self._heard and now - self._heard[0][0] >= SILENT_SECONDS:
            last_seen, name = heapq.heappop(self._heard)
            if last_seen == self._last.get(name):
                self._silent.add(name)
        alone = {name for name in self._silent if f"silent/{name}" in standing}
        return found + grouping.silences(
            self._silent, alone, self._sites, self._active, SILENT_SECONDS
        )

    def _take(self, device: Known) -> None:
        site = device.labels.get(LABEL_SITE, "")
        refused, running = [], set()
        starved = []
        for slot, report in ((device.report or {}).get("slots") or {}).items():
            condition = rules.refused(device.id, slot, report.get("update") or {})
            if condition is not None:
                refused.append(condition)
            lacking = rules.starved(device.id, slot, report)
            if lacking is not None:
                starved.append(lacking)
            running.add(str((report.get("running") or {}).get("manifest", "")))
        self._sites[device.id] = site
        self._active[site] += 1
        if refused:
            self._refused[device.id] = refused
        if starved:
            self._starved[device.id] = starved
        self._running[device.id] = frozenset(running)
        if device.last_seen is not None:
            self._last[device.id] = device.last_seen
            heapq.heappush(self._heard, (device.last_seen, device.id))

    def _drop(self, name: str) -> None:
        site = self._sites.pop(name, None)
        if site is not None:
            self._active[site] -= 1
        self._silent.discard(name)
        self._last.pop(name, None)
        self._refused.pop(name, None)
        self._starved.pop(name, None)
        self._running.pop(name, None)
