"""Sampling: policies, samples, labels."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from muster_hub.api.schemas.base import AT, Body, View
from muster_hub.sampling.labelling import LABELS_MAX
from muster_hub.sampling.policies import BYTES_MAX, DAYS_MAX
from muster_hub.storage.sampling import SampleRow, SamplingPolicyRow
from muster_protocol.wire import limits

Feature = Annotated[str, StringConstraints(min_length=1, max_length=limits.LINE_CHARS_MAX)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=limits.LINE_CHARS_MAX)]


class SamplingAsk(Body):
    """Rows that devices shall send, within what the version's release allows."""

    model: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["pump"])
    version: str = Field(max_length=limits.NAME_CHARS_MAX, examples=["3"])
    selector: str = Field(default="", max_length=1024, examples=["site=berlin"])
    features: dict[Feature, Literal["plain", "blur", "hash"]] = Field(
        min_length=1,
        max_length=limits.SAMPLED_FEATURES_MAX,
        examples=[{"flow": "plain", "serial": "hash"}],
        description="What isn't named is dropped.",
    )
    rows_per_day: int = Field(ge=1, le=limits.SAMPLES_PER_DAY_MAX, examples=[200])
    strata: list[Literal["random", "low_confidence", "drifting", "by_class"]] = Field(
        default=["random"], min_length=1, max_length=4
    )
    answers: bool = Field(default=False, description="What the model answered, too.")
    confidence_below: float = Field(default=0.6, ge=0, le=1)
    days: float = Field(default=7.0, gt=0, le=DAYS_MAX)
    bytes_max: int = Field(default=BYTES_MAX, ge=1, le=limits.INTEGER_MAX)
    reason: Annotated[str, StringConstraints(max_length=500)] = Field(
        default="", examples=["the new pump drifts"]
    )


class SamplingEnd(Body):
    reason: Annotated[str, StringConstraints(max_length=500)] = Field(
        default="", examples=["enough"]
    )


class SampleLabels(Body):
    labels: dict[Digest, Label] = Field(
        min_length=1, max_length=LABELS_MAX, description="Right answers by the samples' SHA-256."
    )


class SamplingView(BaseModel):
    id: int
    model: str = Field(examples=["pump"])
    version: str = Field(examples=["3"])
    manifest: str
    selector: str = Field(examples=["site=berlin"])
    asked: View = Field(description="As it stands in directives.")
    bytes_max: int
    created: float = Field(examples=[AT])
    created_by: str
    expires: float = Field(examples=[AT])
    reason: str
    ended: float | None
    ended_by: str
    ended_reason: str
    rows: int = Field(description="Samples that came.")
    bytes: int

    @classmethod
    def of(cls, row: SamplingPolicyRow) -> "SamplingView":
        return cls(**row.model_dump())


class SampleView(BaseModel):
    id: int
    sha256: str
    device: str
    slot: str
    stratum: str = Field(examples=["low_confidence"])
    taken: float = Field(examples=[AT])
    received: float = Field(examples=[AT])
    size_bytes: int
    label: str | None
    labelled_by: str

    @classmethod
    def of(cls, row: SampleRow) -> "SampleView":
        fields: dict[str, Any] = row.model_dump(exclude={"content"})
        return cls(size_bytes=len(row.content), **fields)


class SamplesChanged(BaseModel):
    samples: int = Field(description="How many samples it was.")
