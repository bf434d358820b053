"""What directives say of sampling: the newest open policy for what a slot runs."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from muster_hub.fleet.known import Known
from muster_hub.sampling.asked import OpenPolicy
from muster_protocol.wire import limits, sampling
from muster_protocol.wire.directive import Directive

SAMPLING_BYTES_MAX = 8 * limits.KIB
"""Of a directive, for the policies of all its slots."""


def asked_otherwise(
    known: Mapping[str, Known],
    before: Sequence[OpenPolicy],
    after: Sequence[OpenPolicy],
) -> Iterator[str]:
    """Devices that a sampling policy began or ceased to ask."""
    numbers = {each.id for each in before} ^ {each.id for each in after}
    differ = [each for each in (*before, *after) if each.id in numbers]
    for name, device in known.items() if differ else ():
        if any(each.selector.matches(device.labels) for each in differ):
            yield name


def _is_known(asked: OpenPolicy, device: Known) -> bool:
    """Whether the device's agent can read the policy: one from before ``blur`` would refuse the
    whole directive."""
    blurs = "blur" in asked.policy.features.values()
    return not blurs or sampling.UNDERSTANDS_BLUR in device.understands


def sampled(content: Directive, device: Known, wanted: Sequence[OpenPolicy]) -> Directive:
    """With what is to be sampled, for an agent that knows of it; as much as a directive holds."""
    if sampling.UNDERSTANDS not in device.understands or not wanted:
        return content
    slots, size = dict(content.slots), 0
    for name, slot in content.slots.items():
        policy = next(
            (
                each.policy
                for each in wanted
                if each.manifest == slot.champion.manifest
                and each.selector.matches(device.labels)
                and _is_known(each, device)
            ),
            None,
        )
        if policy is None:
            continue
        size += len(msgspec.json.encode(policy))
        if size <= SAMPLING_BYTES_MAX:
            slots[name] = msgspec.structs.replace(slot, sampling=policy)
    return msgspec.structs.replace(content, slots=slots)
