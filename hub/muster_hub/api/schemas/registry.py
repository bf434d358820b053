"""Aliases, policies and sources of models."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from muster_hub.api.schemas.base import AT, Body, View
from muster_hub.registry.gates.registry import RULES_MAX
from muster_hub.registry.sources import EVERY_SECONDS_MIN
from muster_hub.storage.registry import AliasChange, ModelAlias, ModelSource, ReleasePolicy

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
REASON_CHARS_MAX = 500
FAULT_CHARS_MAX = 1000
URI_CHARS_MAX = 512


class AliasPut(Body):
    version: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(examples=["2"])
    reason: Annotated[str, StringConstraints(max_length=REASON_CHARS_MAX)] = Field(
        default="", examples=["better on line 2"]
    )


class AliasView(BaseModel):
    alias: str = Field(examples=["champion"])
    version: str = Field(examples=["2"])
    since: float = Field(examples=[AT])
    by: str = Field(examples=["token:ann"])

    @classmethod
    def of(cls, row: ModelAlias) -> "AliasView":
        return cls(alias=row.alias, version=row.version, since=row.since, by=row.by)


class AliasChangeView(BaseModel):
    alias: str = Field(examples=["champion"])
    version: str | None = Field(examples=["2"], description="null: it was taken away.")
    at: float = Field(examples=[AT])
    by: str = Field(examples=["token:ann"])
    reason: str

    @classmethod
    def of(cls, row: AliasChange) -> "AliasChangeView":
        return cls(alias=row.alias, version=row.version, at=row.at, by=row.by, reason=row.reason)


class AliasesView(BaseModel):
    """What a model's aliases stand for, and stood for."""

    aliases: list[AliasView]
    history: list[AliasChangeView] = Field(description="The newest first, the last hundred.")


class PolicyPut(Body):
    gates: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=RULES_MAX,
        examples=[[{"gate": "metric", "metric": "accuracy", "min": 0.9, "drop_max": 0.01}]],
    )


class PolicyView(BaseModel):
    model: str = Field(examples=["pump"])
    gates: list[dict[str, Any]] = Field(
        examples=[[{"gate": "metric", "metric": "accuracy", "min": 0.9, "drop_max": 0.01}]]
    )
    updated: float = Field(examples=[AT])
    by: str = Field(examples=["token:ann"])

    @classmethod
    def of(cls, row: ReleasePolicy) -> "PolicyView":
        return cls(model=row.model, gates=row.gates, updated=row.updated, by=row.by)


class SourceAsk(Body):
    uri: Annotated[
        str,
        StringConstraints(pattern=r"^[a-z]+:[^\x00-\x1f]+$", max_length=URI_CHARS_MAX),
    ] = Field(examples=["mlflow:models:/pump@champion"])
    model: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] = Field(examples=["pump"])
    every_seconds: float = Field(
        default=60.0, ge=EVERY_SECONDS_MIN, le=7 * 86_400.0, examples=[60.0]
    )
    options: View = Field(default={}, max_length=32, examples=[{"labels": "fault"}])


class SourceLook(Body):
    identity: Annotated[str, StringConstraints(max_length=URI_CHARS_MAX)] = Field(
        default="", examples=["models:/pump/3"]
    )
    version: Annotated[str, StringConstraints(max_length=64)] = Field(default="", examples=["3"])
    fault: Annotated[str, StringConstraints(max_length=FAULT_CHARS_MAX)] = Field(default="")


class SourceView(BaseModel):
    id: int
    uri: str = Field(examples=["mlflow:models:/pump@champion"])
    model: str = Field(examples=["pump"])
    every_seconds: float
    options: View
    created: float = Field(examples=[AT])
    created_by: str
    looked: float | None = Field(description="When it was looked at; null: never.")
    identity: str = Field(description="What stood there then.")
    version: str = Field(description="Under which that was pushed.")
    fault: str = Field(description="Why the last look failed; empty: it didn't.")

    @classmethod
    def of(cls, row: ModelSource) -> "SourceView":
        return cls(**row.model_dump())
