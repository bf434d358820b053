"""The fleet's events as they happen."""

from collections.abc import Iterator

import msgspec

from muster_client.answers import Event
from muster_client.failures import OperatorError
from muster_client.transport import Api


def follow(api: Api) -> Iterator[Event]:
    """Events until the hub ends them; raises OperatorError for what is no event."""
    for sent in api.stream("/events/stream"):
        try:
            found: Event = msgspec.json.decode(sent.data)
        except msgspec.DecodeError as error:
            raise OperatorError(f"{api.url} sent an event that is no JSON: {error}") from None
        yield found
