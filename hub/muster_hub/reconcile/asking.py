"""What directives ask of a device besides what its slots hold, each only of agents that know it."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from muster_hub.fleet import feed_settings, log_watching
from muster_hub.fleet.feed_settings import FeedSetting
from muster_hub.fleet.known import Known
from muster_protocol.wire import contact
from muster_protocol.wire import directive as wire
from muster_protocol.wire.contact import Contact
from muster_protocol.wire.directive import Directive


def asked(
    content: Directive,
    device: Known,
    where: Contact | UnsetType,
    settings: Sequence[FeedSetting],
) -> Directive:
    """With where the hub is, what is set of feeds, and what somebody wants to know."""
    if contact.FIELD in device.understands:
        content = msgspec.structs.replace(content, contact=where)
    if wire.DIAGNOSES in device.understands:
        content = msgspec.structs.replace(content, diagnoses=device.diagnoses or UNSET)
    if wire.FEED_WATCHES in device.understands:
        content = msgspec.structs.replace(content, feed_watches=device.feed_watches or UNSET)
    if wire.RESTART in device.understands and device.restart_until is not None:
        restart = wire.TimedRequest(device.restarts, int(device.restart_until))
        content = msgspec.structs.replace(content, restart=restart)
    if wire.LOG_WATCH in device.understands and device.log_watched is not None:
        until = int(device.log_watched + log_watching.WATCH_SECONDS)
        watch = wire.TimedRequest(device.log_watches, until)
        content = msgspec.structs.replace(content, log_watch=watch)
    if wire.FEED_SETTINGS in device.understands:
        found = feed_settings.of_device(device.labels, settings)
        content = msgspec.structs.replace(content, feed_settings=found or UNSET)
    return content


def asks(content: Directive) -> bool:
    """Whether a device without slots has something to be told all the same."""
    wanted = (
        content.contact, content.diagnoses, content.feed_watches, content.feed_settings,
        content.restart, content.log_watch,
    )  # fmt: skip
    return any(each is not UNSET for each in wanted)
