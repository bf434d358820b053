"""API tokens, people, and who is asking."""

from typing import Annotated

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import AT, DAY_SECONDS, Body
from muster_hub.settings.roles import Role
from muster_protocol.wire import limits


class Scoped(BaseModel):
    """A role and what it is limited to."""

    role: str = Field(examples=["operator"])
    models: list[str] = Field(examples=[["digits", "pump-*"]], description="Empty: all.")
    selector: str = Field(examples=["site=berlin"], description="Empty: all devices.")


class ScopeAsk(Body):
    role: Role = Field(examples=["operator"])
    models: list[Annotated[str, Field(max_length=limits.NAME_CHARS_MAX + 1)]] = Field(
        default=[], max_length=64, examples=[["digits", "pump-*"]], description="Empty: all."
    )
    selector: str = Field(
        default="", max_length=1024, examples=["site=berlin"], description="Empty: all devices."
    )


class ApiTokenAsk(ScopeAsk):
    name: str = Field(min_length=1, max_length=64, examples=["ci"])
    owner: str = Field(
        default="", max_length=255, examples=["ada@example.com"],
        description="The person who holds it; empty: you. Whoever makes a token for another counts "
        "as one person with them where two are asked for.",
    )  # fmt: skip
    expires_seconds: float = Field(default=90 * DAY_SECONDS, ge=60, le=3650 * DAY_SECONDS)


class ApiTokenView(Scoped):
    id: str = Field(examples=["9f86d081884c7d65"])
    name: str = Field(examples=["ci"])
    created: float = Field(examples=[AT])
    created_by: str = Field(examples=["token:first-admin"])
    owner: str = Field(examples=["ada@example.com"], description="The person who holds it.")
    expires: float | None
    revoked: float | None


class ApiTokenMade(ApiTokenView):
    token: str = Field(examples=["mst_…"], description="Shown once; only its hash is kept.")


class PersonView(Scoped):
    name: str = Field(examples=["ada@example.com"])
    created: float
    created_by: str


class SignInLinkAsk(Body):
    name: str = Field(min_length=1, max_length=64, examples=["ada"], description="Who it signs in.")
    role: Role = Field(default="viewer", examples=["operator"])
    owner: str = Field(
        default="", max_length=255, examples=["ada@example.com"],
        description="The person, as they log in; empty: `name`.",
    )  # fmt: skip


class SignInLinkMade(BaseModel):
    url: str = Field(
        examples=["https://hub.example:8443/sign-in-link?code=…"],
        description="Good once. Shown once; only a hash is kept.",
    )
    expires: float = Field(examples=[AT])


class WhoView(Scoped):
    name: str = Field(examples=["ci"])
    kind: str = Field(examples=["token"])
    owner: str = Field(examples=["ada@example.com"], description="The person you are taken for.")


class LoginView(BaseModel):
    """How people log in here; all empty when only API tokens count."""

    issuer: str = Field(examples=["https://login.example"])
    client_id: str = Field(examples=["muster"])
    audience: str = Field(examples=["muster"])
