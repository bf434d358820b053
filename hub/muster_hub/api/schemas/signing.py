"""Roles, keys, signatures that wait, and what ends soon."""

from pydantic import BaseModel, Field

from muster_hub.alerts import expiry


class KeyView(BaseModel):
    id: str = Field(examples=["9f86d081884c7d65…"])
    name: str = Field(examples=["ann"], description="As its file was called; empty: unknown.")


class RoleView(BaseModel):
    version: int
    expires: float = Field(examples=[1767225600.0])
    threshold: int = Field(description="How many of the keys must sign.")
    keys: list[KeyView]


class WaitingView(BaseModel):
    """A change that waits: it needs ``threshold`` signatures of this group of keys."""

    version: int
    threshold: int
    signed: list[KeyView]
    may_sign: list[KeyView]


class Signing(BaseModel):
    roles: dict[str, RoleView] = Field(description="What is published.")
    waiting: dict[str, list[WaitingView]] = Field(
        description="By role; a new root waits for the keys in force and for its own."
    )


class EndingView(BaseModel):
    kind: expiry.Kind = Field(
        description="`certificate` of a device; `authority`, the hub's; `metadata` that the hub "
        "publishes; `device_metadata` that a device still trusts and should have newer ones of."
    )
    name: str = Field(examples=["cam-1"], description="A device, or a role of the catalogue.")
    role: str = Field(examples=["timestamp"], description="Of `device_metadata`: ends first.")
    expires: float = Field(examples=[1767225600.0])


class Endings(BaseModel):
    items: list[EndingView] = Field(description="The soonest first.")
    more: int = Field(description="How many are not listed.")
