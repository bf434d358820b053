"""What devices are told of their feeds, as the API takes and says it."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from muster_hub.api.schemas.base import AT, Body, Grows
from muster_protocol.wire import limits, selectors

Settings = dict[str, str | float | bool]


class FeedSettingAsk(Body):
    selector: Annotated[str, StringConstraints(max_length=selectors.CHARS_MAX)] = Field(
        default="", examples=["line=2"], description="Which devices; empty: all."
    )
    feed: Annotated[str, StringConstraints(min_length=1, max_length=limits.NAME_CHARS_MAX)] = Field(
        examples=["press"], description="As agent.toml names it."
    )
    settings: Settings = Field(
        examples=[{"sources.plc.host": "{label.plc_address}"}],
        description="By path below the feed; texts may name labels of the device.",
    )


class FeedSettingView(Grows):
    name: str = Field(examples=["plc-addresses"])
    selector: str = Field(examples=["line=2"])
    feed: str = Field(examples=["press"])
    settings: dict[str, Any] = Field(examples=[{"sources.plc.host": "{label.plc_address}"}])
    created: float = Field(examples=[AT])
    created_by: str
    devices: int = Field(examples=[500], description="That the selector matches now.")
    lacking: dict[str, str] = Field(
        examples=[{"press-9": "plc_address"}],
        description="Devices without a label that is named, and which: they are told nothing of "
        "it. The first twenty.",
    )
    lacking_more: int = Field(default=0, description="Others.")
