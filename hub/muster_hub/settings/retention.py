"""How long the hub keeps telemetry, at each level."""

from typing import Annotated

from msgspec import Meta, Struct


class Telemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """How long windows, hours and days are kept."""

    raw_days: Annotated[int, Meta(ge=2, le=3650)] = 14
    """Single windows. Gates look a day back, trends a day, placebo canaries as far as there is."""
    hour_days: Annotated[int, Meta(ge=7, le=3650)] = 60
    day_days: Annotated[int, Meta(ge=31, le=36500)] = 1825
