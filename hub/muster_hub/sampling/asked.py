"""A sampling policy, as directives go by it. Pure."""

from dataclasses import dataclass

from muster_protocol.wire.sampling import SamplingPolicy
from muster_protocol.wire.selectors import Selector


@dataclass(frozen=True)
class OpenPolicy:
    """A policy that has not ended: for one version, on the devices that the selector matches."""

    id: int
    manifest: str
    selector: Selector
    policy: SamplingPolicy
