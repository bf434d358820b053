"""Webhooks, which carry alerts out."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from muster_hub.api.schemas.base import AT, Body
from muster_hub.settings.alerts import NoticeKind
from muster_hub.storage.alerting import Webhook

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,47}$"
URL_CHARS_MAX = 2048
CAUSES_MAX = 16
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]


class WebhookPut(Body):
    url: Annotated[str, StringConstraints(pattern="^https?://.", max_length=URL_CHARS_MAX)] = Field(
        examples=["https://pager.example/muster"]
    )
    on: list[NoticeKind] = Field(
        default=["opened", "escalated", "resolved"], min_length=1, max_length=5,
        examples=[["opened", "resolved"]],
    )  # fmt: skip
    causes: list[Kind] = Field(
        default=[], max_length=CAUSES_MAX, examples=[["drift"]],
        description="Only alerts of these kinds; empty: all.",
    )  # fmt: skip


class WebhookAsk(WebhookPut):
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] = Field(examples=["pager"])


class WebhookView(BaseModel):
    name: str = Field(examples=["pager"])
    url: str = Field(examples=["https://pager.example/muster"])
    on: list[str] = Field(examples=[["opened", "resolved"]])
    causes: list[str]
    created: float = Field(examples=[AT])
    created_by: str = Field(examples=["token:ci"])
    secret_made: float = Field(examples=[AT])
    tried: float | None = Field(description="When something was last delivered, or could not be.")
    fault: str = Field(description="Why it could not; empty when it was taken.")

    @classmethod
    def of(cls, row: Webhook) -> "WebhookView":
        return cls(on=row.notices, **row.model_dump(exclude={"notices", "secret"}))


class WebhookMade(WebhookView):
    secret: str = Field(
        examples=["mwh_…"], description="The key of its signatures. Shown once; kept sealed."
    )


class WebhookTested(BaseModel):
    delivery: str = Field(examples=["5f" * 16], description="Its `X-Muster-Delivery`.")
    taken: bool
    fault: str = Field(description="Why it was not taken; empty when it was.")
