"""What every resource is made of."""

from muster_client.transport import Api


class Resource:
    """A part of the hub's API."""

    def __init__(self, api: Api) -> None:
        self._api = api
