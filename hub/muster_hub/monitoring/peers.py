"""Is it this device, its process, or the model? One device's drift beside its peers'. Pure.

A device drifts when it left its own past (its monitor says so, calibrated or against training).
Its peers run the same model and were heard of lately. A peer *goes along* with a feature when its
own monitor says that the same feature moved in the same direction. Then

- few peers anywhere go along: *sensor*, this device alone sees the change;
- most of its own group (site) go along, most elsewhere don't: *process*, what they look at changed;
- most go along everywhere: *model*, it no longer fits what the fleet sees;
- too few peers to compare with: *unknown*.

"Most" is more than half, and of fewer than three peers nothing is said.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Cause = Literal["sensor", "process", "model", "unknown"]
GROUP_PEERS_MIN = 1
PEERS_MIN = 3
"""Below this many peers in all, nothing can be said."""

ADVICE: Mapping[Cause, str] = {
    "sensor": "Only this device sees it: check its sensor, lens, mounting, light and cabling "
    "before anything else. Retraining would teach the model a fault.",
    "process": "Its whole group sees it, others don't: ask there what changed (material, recipe, "
    "season, a moved machine). If it is meant to stay, retrain with data from there, or "
    "rebaseline those devices.",
    "model": "Most of the fleet sees it: the model no longer fits its world. Retrain on recent "
    "data and roll the new version out; until then trust its answers less.",
    "unknown": "There are too few peers to compare with: check the device first, then ask whether "
    "what it looks at has changed.",
}


@dataclass(frozen=True)
class Moved:
    """A device's drifting features, each with the direction it moved in."""

    device: str
    group: str = ""
    """Devices that see the same process, such as its site."""
    features: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Company:
    """Who goes along with a device's feature."""

    group_along: int
    group_peers: int
    others_along: int
    others_peers: int

    @property
    def cause(self) -> Cause:
        """Sensor, process or model, by who else drifts."""
        peers = self.group_peers + self.others_peers
        if peers < PEERS_MIN:
            return "unknown"
        in_group = self.group_peers >= GROUP_PEERS_MIN and _most(self.group_along, self.group_peers)
        if not self.others_peers:
            # One group is the whole fleet: its process and the model can't be told apart.
            return "process" if in_group else "sensor"
        elsewhere = _most(self.others_along, self.others_peers)
        if elsewhere and (in_group or not self.group_peers):
            return "model"
        return "process" if in_group else "sensor"


class Peers:
    """Devices that run one model, counted once: each is then compared at the cost of one."""

    def __init__(self, fleet: Iterable[Moved]) -> None:
        self._devices: Counter[str] = Counter()
        self._along: Counter[tuple[str, str, str]] = Counter()
        self._everywhere: Counter[tuple[str, str]] = Counter()
        for peer in fleet:
            self._devices[peer.group] += 1
            for feature, direction in peer.features.items():
                self._along[peer.group, feature, direction] += 1
                self._everywhere[feature, direction] += 1

    def company(self, device: Moved, feature: str) -> Company:
        """Who goes along with ``feature`` of ``device``, which is one of them."""
        direction = device.features[feature]
        group_along = self._along[device.group, feature, direction] - 1
        group_peers = self._devices[device.group] - 1
        return Company(
            group_along=group_along,
            group_peers=group_peers,
            others_along=self._everywhere[feature, direction] - 1 - group_along,
            others_peers=self._devices.total() - 1 - group_peers,
        )


_BREADTH: tuple[Cause, ...] = ("unknown", "sensor", "process", "model")


def verdict(companies: Iterable[Company]) -> Cause:
    """Of several drifting features the widest cause: a fleet-wide one explains the narrow ones."""
    causes = {company.cause for company in companies}
    return max(causes, key=_BREADTH.index, default="unknown")


def _most(along: int, peers: int) -> bool:
    return 2 * along > peers
