"""Drift and its history."""

from typing import Any

from pydantic import Field

from muster_hub.api.schemas.base import AT, Body, Grows, View


class FeatureView(Grows):
    name: str = Field(examples=["image.brightness"])
    p0: list[float] = Field(description="The baseline's share of each bin.")
    now: list[int | float] = Field(description="Counts per bin in the latest windows.")
    statistics: View
    status: str = Field(examples=["calibrated"])
    finding: Any = None
    trend: list[View] = Field(
        default=[],
        examples=[[{"start": 1767225600.0, "n": 3000, "psi": 0.02, "shift": -0.1}]],
        description="Of one device: the latest windows in order of time, merged to few points. "
        "`psi` is bias-corrected; `shift` is that of the mean, in the baseline's σ.",
    )


class DriftView(Grows):
    """Each feature of a model on a device, now beside its baseline."""

    device: str = Field(examples=["cam-1"])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    manifest: str
    n: int = Field(description="Inferences in the windows shown.")
    windows: int
    status: str = Field(examples=["drifting"])
    note: str = Field(
        default="", examples=[""], description="What is lost with this baseline; empty: nothing."
    )
    hint: str = Field(
        default="",
        examples=["confidence fell from 0.93 to 0.81 while flow drifts: answers may be worse"],
        description="Without labels, a guess at what drift does to answers. Never an alert.",
    )
    features: list[FeatureView]


class HistoryView(Grows):
    """An hour or a day of one version, merged from every window that began in it."""

    start: float = Field(examples=[AT], description="The hour or the day in UTC.")
    version: str = Field(examples=["2"])
    manifest: str
    devices: int = Field(description="That sent windows.")
    windows: int
    seconds: float = Field(description="Covered by the windows, summed over devices.")
    n: int = Field(description="Inferences.")
    errors: int
    labels: int
    accuracy: float | None = Field(description="Of a classifier, by its labels.")
    mean_absolute_error: float | None = Field(
        description="Of a regression, by its labels; null for a selector."
    )
    root_mean_square_error: float | None = Field(
        description="Of a regression, by its labels; null for a selector."
    )
    p95_seconds: float | None = Field(description="Of the latency; null for a selector.")
    cpu_seconds: float | None = Field(description="Of the workers; null for a selector.")
    energy_joules: float | None = Field(
        description="Estimated on the devices that can; null for a selector."
    )
    features: list[View] = Field(
        description="Of one device or the fleet: `name`, `n`, `psi` (bias-corrected) and `shift` "
        "of the mean in the baseline's σ. Empty for a selector.",
        examples=[[{"name": "image.brightness", "n": 3000, "psi": 0.02, "shift": -0.1}]],
    )


class Rebaseline(Body):
    model: str = Field(max_length=64, examples=["digits"])


class RebaselineView(Grows):
    device: str = Field(examples=["cam-1"])
    model: str = Field(examples=["digits"])
    version: str = Field(examples=["2"])
    manifest: str
    forgotten: list[str] = Field(
        examples=[["image.brightness"]], description="Features that drifted until now."
    )
