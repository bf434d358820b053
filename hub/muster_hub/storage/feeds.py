"""What devices are told of their feeds beside their own configuration."""

from typing import Any

from sqlmodel import Field

from muster_hub.storage.tables import NAME, Table, json_field


class FeedSettingRow(Table, table=True):
    """Values of one feed on the devices that a selector matches."""

    __tablename__ = "feed_setting"

    name: str = Field(primary_key=True, max_length=NAME)
    selector: str = ""
    feed: str = Field(max_length=NAME)
    settings: dict[str, Any] = json_field(dict)
    """By path below the feed; texts may hold ``{label.<key>}``."""
    created: float
    created_by: str
