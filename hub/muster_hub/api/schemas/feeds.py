"""How a device's feeds stand, as the API says it."""

from pydantic import Field

from muster_hub.api.schemas.base import Grows


class FeedsAsked(Grows):
    device: str = Field(examples=["press-7"])
    request: int = Field(examples=[3], description="How often its feeds were watched.")


class FeedSignalView(Grows):
    feature: str = Field(examples=["vibration_rms"])
    signal: str = Field(examples=["vibration"])
    value: float | None = Field(default=None, examples=[2.4])
    unit: str = Field(default="", examples=["mm/s"])
    quality: str = Field(examples=["good"], description="good, uncertain or bad.")
    reason: str = Field(default="", examples=["stale"])
    age_seconds: float | None = Field(default=None, examples=[0.4])


class FeedPartView(Grows):
    trouble: str = Field(default="", description="Why it does not work; empty while it does.")
    counts: dict[str, int] = Field(default={}, examples=[{"answers_delivered": 120}])


class FeedAnswerView(Grows):
    value: float | None = Field(default=None, examples=[0.93])
    label: str = ""
    confidence: float | None = None
    quality: str = Field(examples=["good"])
    reason: str = ""
    basis: str = Field(examples=["model"])
    age_seconds: float | None = None


class FeedView(Grows):
    slot: str = Field(examples=["pump"])
    model: str = Field(default="", examples=["pump-wear"])
    version: str = Field(default="", examples=["1.4.0"])
    refusal: str = Field(default="", description="Why no model is asked; empty while one is.")
    age_seconds: float | None = Field(
        default=None, description="Since this was so when it was told."
    )
    signals: list[FeedSignalView] = Field(default=[])
    left_out: int = Field(default=0, description="Signals that there was no room for.")
    sources: dict[str, FeedPartView] = Field(default={})
    sinks: dict[str, FeedPartView] = Field(default={})
    counts: dict[str, int] = Field(default={}, examples=[{"rows_good": 1200, "rows_skipped": 3}])
    answer: FeedAnswerView | None = None
    trails: dict[str, list[float]] = Field(
        default={}, description="By feature, its latest values, the oldest first."
    )


class FeedsView(Grows):
    device: str = Field(examples=["press-7"])
    asked: int = Field(examples=[3], description="How often its feeds were watched.")
    asked_at: float | None = Field(examples=[1_800_000_000.0])
    live: bool = Field(description="Whether it should be telling now.")
    received: float | None = Field(description="When it told this.", examples=[1_800_000_000.0])
    feeds: dict[str, FeedView]
