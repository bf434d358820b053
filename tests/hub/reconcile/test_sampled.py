"""Which policy a directive carries: none that the agent would refuse the whole directive for."""

import msgspec

from muster_hub.fleet.known import Known
from muster_hub.reconcile.sampled import sampled
from muster_hub.sampling.asked import OpenPolicy
from muster_protocol.wire import sampling, selectors
from muster_protocol.wire.sampling import SamplingPolicy
from wire_samples import DIRECTIVE

CHAMPION = DIRECTIVE.slots["vision"].champion
PLAIN = SamplingPolicy(
    policy="1", features={"flow": "plain"}, rows_per_day=5, strata=("random",), expires=9
)
BLUR = msgspec.structs.replace(PLAIN, policy="2", features={"camera": "blur"})
OPEN = [
    OpenPolicy(int(each.policy), CHAMPION.manifest, selectors.parse(""), each)
    for each in (BLUR, PLAIN)
]


def asked(*understands: str) -> object:
    facts = {"facts": {"understands": list(understands)}}
    device = Known(
        id="d", labels={}, online=True, report=facts, reported=1.0, last_seen=1.0, active=True,
        created=0.0,
    )  # fmt: skip
    return sampled(DIRECTIVE, device, OPEN).slots["vision"].sampling


def test_an_agent_from_before_blur_gets_the_newest_policy_that_it_can_read() -> None:
    assert asked(sampling.UNDERSTANDS, sampling.UNDERSTANDS_BLUR) == BLUR
    assert asked(sampling.UNDERSTANDS) == PLAIN
    assert asked() is msgspec.UNSET
