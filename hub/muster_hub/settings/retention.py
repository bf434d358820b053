"""How long the hub keeps telemetry, at each level, and what sending it takes."""

from typing import Annotated

from msgspec import Meta, Struct


class Telemetry(Struct, frozen=True, forbid_unknown_fields=True):
    """How long windows, hours and days are kept."""

    raw_days: Annotated[int, Meta(ge=2, le=3650)] = 14
    """Single windows. Gates look a day back, trends a day, placebo canaries as far as there is."""
    hour_days: Annotated[int, Meta(ge=7, le=3650)] = 60
    day_days: Annotated[int, Meta(ge=31, le=36500)] = 1825
    joules_per_byte: Annotated[float, Meta(ge=0, le=1)] = 5.6e-6
    """What a device's radio takes to send a byte, to say in energy what isn't sent; 0: not said.

    The default is LTE at 5 Mbit/s, (438 mW/(Mbit/s) + 1,288 mW / 5 Mbit/s) × 8 bits, after Huang
    et al., "A Close Examination of Performance and Power Characteristics of 4G LTE Networks",
    MobiSys 2012. By the same: Wi-Fi at 5 Mbit/s 2.5e-6, 3G at 1 Mbit/s 1.35e-5."""
