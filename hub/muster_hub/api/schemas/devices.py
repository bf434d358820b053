"""Devices, and what was counted of them."""

from typing import Any

from pydantic import BaseModel, Field

from muster_hub.api.schemas.base import AT, DAY_SECONDS, Body, Grows, View


class ReleaseView(Grows):
    model: str | None = Field(examples=["digits"])
    version: str | None = Field(examples=["2"])
    manifest: str | None = Field(examples=["3f" * 32], description="SHA-256 of the manifest.")


class Running(ReleaseView):
    runtime: str | None = Field(default=None, examples=["onnx"])


class Proved(ReleaseView):
    since: list[Any] = Field(
        description="By the device's own clocks: boot, monotonic and wall seconds, their quality."
    )
    inferences: int = Field(examples=[18_000])


class DeviceView(Grows):
    """A device: what it was asked to run beside what it has proved to run."""

    id: str = Field(examples=["cam-1"])
    labels: dict[str, str] = Field(examples=[{"site": "berlin", "line": "2"}])
    created: float = Field(examples=[AT])
    approved: bool
    revoked: bool
    certificate_expires: float | None = Field(examples=[AT + 31_536_000])
    online: bool = Field(description="Connected, and heard of within minutes.")
    online_changed: float | None
    last_seen: float | None
    reported: float | None = Field(description="When its latest report came.")
    report: View | None = Field(description="The latest report, as the protocol has it.")
    generation: int | None = Field(description="Of the directive in force.", examples=[7])
    desired: dict[str, ReleaseView] = Field(description="By slot.")
    running: dict[str, Running] = Field(description="By slot, as its latest report says.")
    proved: dict[str, Proved] = Field(
        description="By slot, when its latest report is signed with its identity key."
    )
    converged: bool = Field(description="Every desired version is committed.")
    set_aside: int = Field(default=0, description="Messages of its that could not be read or kept.")
    set_aside_at: float | None = Field(default=None, description="When the latest of them came.")
    set_aside_fault: str = Field(default="", description="What was wrong with it.")


class SetAsideView(BaseModel):
    """A message of a device that could not be read or kept."""

    id: int
    leaf: str = Field(examples=["telemetry"], description="Of its topic.")
    received: float = Field(examples=[AT])
    fault: str = Field(examples=["not a valid Batch: Expected `int` <= 9007199254740991"])
    size_bytes: int
    payload: str = Field(description="Its first bytes, in base64.")


class LabelsPatch(Body):
    labels: dict[str, str] = Field(
        examples=[{"site": "berlin", "line": "3"}], description="Replaces all labels."
    )


class Replace(Body):
    expires_seconds: float = Field(
        default=3600, ge=1, le=90 * DAY_SECONDS, description="How long the token is valid."
    )


class Retry(Body):
    slot: str | None = Field(
        default=None, max_length=64, examples=["main"], description="None: each that it has."
    )


class RetryView(Grows):
    device: str = Field(examples=["cam-1"])
    slots: list[str] = Field(examples=[["main"]], description="Which are tried anew.")


class RestartAsked(Grows):
    device: str = Field(examples=["cam-1"])
    request: int = Field(examples=[2], description="Its number.")
    until: float = Field(
        examples=[1_800_003_600.0], description="A device that hears of it later does nothing."
    )


class DiagnosisAsked(Grows):
    device: str = Field(examples=["cam-1"])
    request: int = Field(examples=[3], description="Its number; the answer names it.")


class DiagnosisLine(Grows):
    grade: str = Field(
        examples=["fail"], description="ok, warn or fail; log: a line of the agent's log."
    )
    check: str = Field(examples=["clock"])
    line: str = Field(examples=["not synchronised: expiry is judged by signed times; check NTP"])


class DiagnosisView(Grows):
    device: str = Field(examples=["cam-1"])
    asked: int = Field(examples=[3], description="The latest request; 0: nobody has asked.")
    answered: int = Field(examples=[3], description="The latest that was answered; 0: none.")
    received: float | None = Field(examples=[1_800_000_000.0])
    lines: list[DiagnosisLine]


class CountsView(Grows):
    device: str = Field(examples=["cam-1"])
    inferences: int
    errors: int
    windows: int
    by_version: dict[str, int] = Field(examples=[{"digits/2": 18_000}])
    label_accuracy: dict[str, View] = Field(
        description="By version: `labels` that were held against an answer; `accuracy` of a "
        "classifier; `mean_absolute_error` and `root_mean_square_error` of a regression; "
        "`unmatched` labels, whose inference isn't remembered.",
        examples=[
            {
                "digits/2": {
                    "labels": 120,
                    "accuracy": 0.97,
                    "unmatched": 3,
                    "mean_absolute_error": None,
                    "root_mean_square_error": None,
                }
            }
        ],
    )
    unreadable_windows: int


class WindowView(Grows):
    """The counts of one telemetry window."""

    id: int
    device: str = Field(examples=["cam-1"])
    epoch: str
    sequence: int
    slot: str
    model: str
    version: str
    manifest: str
    start: float = Field(examples=[AT])
    seconds: float = Field(examples=[300.0])
    n: int = Field(description="Inferences.")
    errors: int
    received: float
    historical: bool = Field(
        description="Came over an hour after its end: from a device that was offline."
    )
    fault: str = Field(description="Why it can't be read; empty when it can.")
