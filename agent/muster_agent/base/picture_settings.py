"""Sources of pictures under ``[feeds.<name>.sources]`` in ``agent.toml``. Pure."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster_agent.base.tag_settings import PeriodSeconds, TagSettings
from muster_protocol.wire import limits


class PictureTag(TagSettings, frozen=True, kw_only=True):
    """Pictures, for a model whose input is one. They have no unit and no scale."""


class ImagesSource(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="images"
):
    """A folder into which a camera's software drops pictures; each is judged once."""

    path: Annotated[
        str, Meta(min_length=1, description="The folder; .png, .jpg, .jpeg and .bmp in it count.")
    ]
    signal: Annotated[str, Meta(min_length=1, description="Signal that the pictures are.")] = (
        "image"
    )
    every_seconds: Annotated[PeriodSeconds, Meta(description="How often it is looked at.")] = 0.2
    settle_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="For so long a file must not have changed; 0 where files are renamed into "
            "the folder when they are whole.",
        ),
    ] = 0.2
    done: Annotated[
        Literal["move", "delete", "keep"],
        Meta(
            description="What becomes of a picture once its answer is given: it moves to the "
            "folder done in there, is deleted, or stays. One that can't be read moves to bad, "
            "unless all stay."
        ),
    ] = "move"
    done_files_max: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Files kept in done, and in bad; the oldest go."),
    ] = 1000
    waiting_files_max: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Pictures that may wait; the oldest beyond are not judged, and counted.",
        ),
    ] = 100
    file_bytes_max: Annotated[
        int, Meta(ge=1024, le=256 * limits.MIB, description="Size of a file that is still read.")
    ] = 16 * limits.MIB
    pixels_max: Annotated[
        int, Meta(ge=1, le=200_000_000, description="Height × width that is still decoded.")
    ] = 32_000_000

    @property
    def tags(self) -> dict[str, PictureTag]:
        """As every source has them."""
        return {self.signal: PictureTag()}


class CameraSource(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="camera"
):
    """A camera that is asked for a picture every so often; the newest frame wins."""

    device: Annotated[
        str,
        Meta(
            min_length=1,
            description="A V4L2 device, such as /dev/video0; or a film, or a folder of pictures, "
            "that is shown again and again.",
        ),
    ]
    signal: Annotated[str, Meta(min_length=1, description="Signal that the pictures are.")] = (
        "image"
    )
    every_seconds: Annotated[PeriodSeconds, Meta(description="How often a picture is taken.")] = 1.0
    width: Annotated[
        int, Meta(ge=0, le=16_384, description="Asked of a device, with height; 0: its own.")
    ] = 0
    height: Annotated[int, Meta(ge=0, le=16_384, description="See width.")] = 0

    @property
    def tags(self) -> dict[str, PictureTag]:
        """As every source has them."""
        return {self.signal: PictureTag()}
