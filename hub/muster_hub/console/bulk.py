"""What an act on many devices would reach and change, before it is done. Nothing here writes."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

import msgspec

from muster_hub.errors import Invalid
from muster_hub.fleet.assignments import AssignedRelease, choose
from muster_hub.fleet.overview import Glimpse, Standing
from muster_hub.identity import enrolment

BulkAct = Literal["label", "approve", "retry", "rebaseline", "revoke"]
DEVICES_MAX = 1_000
"""Of one act: a page waits for it."""
NAMED = 20


@dataclass(frozen=True)
class BulkAsk:
    """An act on the devices of a selector."""

    act: BulkAct
    key: str = ""
    """Of the label that is set."""
    value: str = ""
    """Empty: the label is taken away."""
    model: str = ""
    """Whose normal is taken anew."""

    @property
    def lacks(self) -> str:
        """What must still be said, in words; empty: nothing. Raises Invalid for an odd label."""
        match self.act:
            case "label":
                if self.key:
                    enrolment.check_labels({self.key: self.value or "x"})
                return "" if self.key else "Name the label."
            case "rebaseline":
                return "" if self.model else "Name the model."
            case "approve" | "retry" | "revoke":
                return ""
            case _:
                assert_never(self.act)

    def labels(self, before: Mapping[str, str]) -> dict[str, str]:
        """A device's labels after it."""
        kept = {name: value for name, value in before.items() if name != self.key}
        return kept | ({self.key: self.value} if self.value else {})


@dataclass
class Reach:
    """Whom an act reaches, and what becomes of them."""

    devices: list[Glimpse]
    standings: list[tuple[Standing, int]]
    changed: int
    """Devices that it changes at all; the others are so already."""
    tag: str
    """Of all this: whoever confirms an older look is told so."""
    swaps: list[tuple[str, str, str, int]] = field(default_factory=list)
    """(slot, model, version, devices): what other assignments would have devices run then."""
    lost: int = 0
    """Devices that no assignment would name any more in a slot where one does."""


def reach(
    ask: BulkAsk, devices: Sequence[Glimpse], assignments: Sequence[AssignedRelease]
) -> Reach:
    """What ``ask`` would do to ``devices``, given what assignments hold. Raises Invalid."""
    if len(devices) > DEVICES_MAX:
        raise Invalid(
            f"the selector names {len(devices)} devices, at most {DEVICES_MAX} can be done at "
            "once: narrow it"
        )
    swaps: Counter[tuple[str, str, str]] = Counter()
    lost = 0
    for device in devices if ask.act == "label" and ask.key else ():
        before = choose(device.labels, assignments, (), ())
        after = choose(ask.labels(device.labels), assignments, (), ())
        for slot, choice in after.items():
            held = before.get(slot)
            if held is None or held.release != choice.release:
                swaps[slot, choice.release.model, choice.release.version] += 1
        lost += bool(before.keys() - after.keys())
    counted = Counter(device.standing for device in devices)
    return Reach(
        devices=list(devices),
        standings=counted.most_common(),
        changed=sum(changes(ask, device) for device in devices),
        tag=_tag(ask, devices),
        swaps=[(*names, count) for names, count in swaps.most_common()],
        lost=lost,
    )


def changes(ask: BulkAsk, device: Glimpse) -> bool:
    """Whether the act does anything to a device."""
    match ask.act:
        case "label":
            return ask.labels(device.labels) != dict(device.labels)
        case "approve":
            return device.standing == "awaiting_approval"
        case "revoke":
            return device.standing != "revoked"
        case "retry":
            return device.standing == "refused"
        case "rebaseline":
            return any(model == ask.model for _, model, _ in device.runs)
        case _:
            assert_never(ask.act)


def _tag(ask: BulkAsk, devices: Sequence[Glimpse]) -> str:
    seen = [[device.id, sorted(device.labels.items()), device.standing == "revoked"]
            for device in devices]  # fmt: skip
    text = msgspec.json.encode([vars(ask), seen])
    return hashlib.sha256(text).hexdigest()[:32]
