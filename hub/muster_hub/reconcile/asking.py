"""What directives ask of a device besides what its slots hold, each only of agents that know it."""

import msgspec
from msgspec import UNSET, UnsetType

from muster_hub.fleet.known import Known
from muster_protocol.wire import contact
from muster_protocol.wire import directive as wire
from muster_protocol.wire.contact import Contact
from muster_protocol.wire.directive import Directive


def asked(content: Directive, device: Known, where: Contact | UnsetType) -> Directive:
    """With where the hub is, and with what somebody wants to know of the device."""
    if contact.FIELD in device.understands:
        content = msgspec.structs.replace(content, contact=where)
    if wire.DIAGNOSES in device.understands:
        content = msgspec.structs.replace(content, diagnoses=device.diagnoses or UNSET)
    if wire.FEED_WATCHES in device.understands:
        content = msgspec.structs.replace(content, feed_watches=device.feed_watches or UNSET)
    return content


def asks(content: Directive) -> bool:
    """Whether a device without slots has something to be told all the same."""
    wanted = (content.contact, content.diagnoses, content.feed_watches)
    return any(each is not UNSET for each in wanted)
