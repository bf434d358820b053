"""What every tag of a feed's sources has, whatever kind they are of. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

PeriodSeconds = Annotated[float, Meta(gt=0, le=3600)]


class TagSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tag of a machine, under the name of the signal that the model asks for."""

    unit: Annotated[
        str, Meta(description="Unit of the value after scale and offset; the model's must be it.")
    ] = ""
    scale: Annotated[float, Meta(description="The value is scale × raw + offset.")] = 1.0
    offset: Annotated[float, Meta(description="See scale.")] = 0.0
    least: Annotated[
        float | None,
        Meta(description="A value below is bad (range), beside what the model says of it."),
    ] = None
    most: Annotated[float | None, Meta(description="A value above is bad (range).")] = None
