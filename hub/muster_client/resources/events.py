"""The fleet's events as they happen."""

from collections.abc import Collection, Iterator

import msgspec

from muster_client.answers import Event
from muster_client.failures import OperatorError
from muster_client.transport import Api


def follow(
    api: Api,
    *,
    selector: str | None = None,
    device: str | None = None,
    kinds: Collection[str] = (),
) -> Iterator[Event]:
    """Events until the hub ends them; raises OperatorError for what is no event.

    With ``selector`` those of devices that match, with ``device`` its own, with ``kinds`` only
    these; lines of logs come only when asked for.
    """
    for sent in api.stream("/events/stream", selector=selector):
        try:
            found: Event = msgspec.json.decode(sent.data)
        except msgspec.DecodeError as error:
            raise OperatorError(f"{api.url} sent an event that is no JSON: {error}") from None
        wanted = found["kind"] in kinds if kinds else found["kind"] != "log"
        if device in (None, found["device"]) and wanted:
            yield found
