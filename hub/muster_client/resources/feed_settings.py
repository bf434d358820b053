"""What devices are told of their feeds beside their own configuration."""

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from muster_client.resources.base import Resource
from muster_client.transport import part


class FeedSetting(TypedDict):
    """Values of one feed on the devices that a selector matches."""

    name: str
    selector: str
    feed: str
    settings: dict[str, Any]
    created: float
    created_by: str
    devices: int
    lacking: dict[str, str]
    lacking_more: int


class FeedSettings(Resource):
    """Settings by their names."""

    def list(self) -> list[FeedSetting]:
        """All of them."""
        return cast("list[FeedSetting]", list(self._api.pages("/feed-settings", None)))

    def set(
        self, name: str, feed: str, settings: Mapping[str, Any], selector: str = ""
    ) -> FeedSetting:
        """Set values of a feed by their paths, on the devices that a selector matches."""
        body = {"selector": selector, "feed": feed, "settings": dict(settings)}
        found: FeedSetting = self._api.put(f"/feed-settings/{part(name)}", body)
        return found

    def remove(self, name: str) -> None:
        """Let the devices' own configuration count again."""
        self._api.delete(f"/feed-settings/{part(name)}")
