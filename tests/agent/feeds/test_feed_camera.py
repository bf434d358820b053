"""A camera as a source: films and folders are shown again and again, and the newest frame wins."""

import asyncio

import msgspec
import numpy as np
import pytest

from muster_agent.base.picture_settings import CameraSource
from muster_agent.feeds.images.camera import CameraPictures, VideoDevice
from muster_agent.feeds.samples import Picture
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_protocol.images.decoding import decoded
from support.pictures import png
from support.plant_servers import Heard, running

cv2 = pytest.importorskip("cv2", reason="the extra camera is not installed")


def source(folder, heard, device, **fields):
    given = {"kind": "camera", "device": str(device), "every_seconds": 0.01} | fields
    settings = msgspec.convert(given, CameraSource)
    place = FeedPlace("press-7", "press", "cam", "slot", folder)
    return CameraPictures(settings, heard.inlet.of(settings.tags), place)


async def picture(heard) -> Picture:
    found = await heard.until(lambda each: isinstance(each, Picture))
    found.settle(True)
    return found


def film(path, levels) -> None:
    """Red frames that get brighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for level in levels:
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 2] = level  # OpenCV's order: blue, green, red
        writer.write(frame)
    writer.release()


def test_a_folder_is_shown_in_a_loop_and_a_bad_picture_stops_nothing(tmp_path):
    async def story():
        heard = Heard()
        (tmp_path / "a.png").write_bytes(png(seed=1))
        (tmp_path / "b.png").write_bytes(b"no picture")
        made = source(tmp_path, heard, ".")
        async with running(made):
            came = [await picture(heard) for _ in range(3)]
        assert [each.name for each in came] == ["1-a.png", "2-b.png", "3-a.png"]
        assert came[1].pixels is None
        np.testing.assert_array_equal(came[2].pixels, decoded(png(seed=1)))

    asyncio.run(story())


def test_a_film_is_shown_in_a_loop_with_red_first(tmp_path):
    async def story():
        heard = Heard()
        film(tmp_path / "belt.avi", (50, 150, 250))
        async with running(source(tmp_path, heard, "belt.avi")):
            came = [await picture(heard) for _ in range(4)]
        assert [each.name for each in came] == [f"{number}-belt.avi" for number in range(1, 5)]
        red = [float(each.pixels[..., 0].mean()) for each in came]
        np.testing.assert_allclose(red, [50, 150, 250, 50], atol=6)
        assert all(each.pixels[..., 2].mean() < 10 for each in came)

    asyncio.run(story())


def test_of_a_device_that_is_faster_than_the_feed_the_newest_frame_is_taken(tmp_path):
    """A film stands for the device: its reader is the same, and runs as fast as it can."""
    film(tmp_path / "belt.avi", range(0, 250, 5))
    device = VideoDevice(CameraSource(device=str(tmp_path / "belt.avi")))
    numbers: list[int] = []

    def show() -> None:
        while True:
            numbers.append(int(device.newest()[0].partition("-")[0]))

    with pytest.raises(FeedFault, match=r"belt\.avi: the camera gives no frame"):
        show()
    device.close()
    assert numbers == sorted(set(numbers))
    assert numbers[-1:] <= [50]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("nothing", "no such device, film or folder"),
        ("/dev/video99", "/dev/video99: no camera or film that can be opened"),
        ("text.avi", "no camera or film that can be opened"),
        ("empty", "no picture in it"),
    ],
)
def test_what_cant_be_opened_is_named(tmp_path, device, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.avi").write_text("no film")
    with pytest.raises(FeedFault, match=words):
        asyncio.run(source(tmp_path, Heard(), device).run())
