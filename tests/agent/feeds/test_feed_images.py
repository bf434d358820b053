"""A folder of pictures as a source: each is judged once, in order, and a bad one stops nothing."""

import asyncio
import json
import os

import msgspec
import numpy as np
import pytest

from muster_agent.base.picture_settings import ImagesSource
from muster_agent.feeds.images.folder import DroppedPictures
from muster_agent.feeds.samples import Picture
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_protocol.images.decoding import decoded
from support.fed import FedSlot
from support.pictures import drop, expected, png, seen_bundle
from support.plant_servers import Heard, running
from support.waiting import until

PATIENCE_SECONDS = 60.0


def source(folder, heard, **fields):
    given = {"kind": "images", "path": ".", "every_seconds": 0.01, "settle_seconds": 0.0} | fields
    settings = msgspec.convert(given, ImagesSource)
    inlet = heard.inlet.of(settings.tags)
    return DroppedPictures(settings, inlet, FeedPlace("press-7", "press", "cam", "slot", folder))


async def picture(heard, *, judged: bool = True) -> Picture:
    """The next picture, answered or left alone."""
    found = await heard.until(lambda each: isinstance(each, Picture))
    found.settle(judged)
    return found


async def gone(path) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while path.exists():  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.01)  # Nothing says when it is put aside.


async def lost(heard) -> int:
    """How many pictures were given before a sign that there are no more: none for a while."""
    await asyncio.sleep(0.1)  # It would have come by then.
    return sum(isinstance(each, Picture) for each in heard.inlet.drain())


def names(folder) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_file())


def test_pictures_come_one_by_one_in_the_order_of_their_times_and_move_when_answered(tmp_path):
    async def story():
        heard = Heard()
        for place, name in enumerate(("b.png", "a.png", "c.PNG")):
            drop(tmp_path, name, png(seed=place))
            os.utime(tmp_path / name, (1_800_000_000 + place,) * 2)
        drop(tmp_path, "notes.txt", b"no picture")
        async with running(source(tmp_path, heard)):
            came = [await picture(heard) for _ in range(3)]
            await gone(tmp_path / "c.PNG")
        assert [each.name for each in came] == ["b.png", "a.png", "c.PNG"]
        assert [each.at for each in came] == [1_800_000_000 + place for place in range(3)]
        np.testing.assert_array_equal(came[1].pixels, decoded(png(seed=1)))
        assert names(tmp_path / "done") == ["a.png", "b.png", "c.PNG"]
        assert names(tmp_path) == ["notes.txt"]

    asyncio.run(story())


def test_a_picture_that_nobody_asks_about_waits_and_comes_again(tmp_path):
    async def story():
        heard = Heard()
        drop(tmp_path, "a.png", png())
        async with running(source(tmp_path, heard)):
            await picture(heard, judged=False)
            assert (await picture(heard)).name == "a.png"
            await gone(tmp_path / "a.png")

    asyncio.run(story())


def test_a_file_that_is_still_written_waits_until_it_has_settled(tmp_path):
    async def story():
        heard, whole = Heard(), png()
        async with running(source(tmp_path, heard, settle_seconds=0.3)):
            with (tmp_path / "a.png").open("wb") as file:
                for place in range(0, len(whole), len(whole) // 8):
                    file.write(whole[place : place + len(whole) // 8])
                    file.flush()
                    await asyncio.sleep(0.01)  # A slow camera.
            assert (await picture(heard)).pixels is not None

    asyncio.run(story())


def test_a_bad_picture_is_named_counted_and_put_aside_and_the_next_one_comes(tmp_path, caplog):
    async def story():
        heard = Heard()
        made = source(tmp_path, heard, file_bytes_max=4096)
        for name, data in (("1.png", png()[:100]), ("2.jpg", b"\xff\xd8"), ("3.bmp", bytes(5000))):
            drop(tmp_path, name, data)
        drop(tmp_path, "4.png", png())
        for place in range(1, 5):
            path = next(tmp_path.glob(f"{place}.*"))
            os.utime(path, (place, place))
        async with running(made):
            came = [await picture(heard) for _ in range(4)]
            await gone(tmp_path / "4.png")
        assert [each.pixels is None for each in came] == [True, True, True, False]
        assert names(tmp_path / "bad") == ["1.png", "2.jpg", "3.bmp"]
        assert made._inlet.counts == {"pictures_unreadable": 3, "pictures_judged": 1}

    asyncio.run(story())
    assert "3.bmp: more than 4096 bytes, which is file_bytes_max" in caplog.text


@pytest.mark.parametrize("done", ["keep", "delete"])
def test_what_was_judged_stays_or_goes_as_the_settings_say_and_is_not_judged_again(tmp_path, done):
    async def story():
        heard = Heard()
        drop(tmp_path, "old.png", png())
        async with running(source(tmp_path, heard, done=done)):
            if done == "delete":
                await picture(heard)
            await asyncio.sleep(0.1)  # What is there already is known to the one that keeps.
            drop(tmp_path, "new.png", png())
            assert (await picture(heard)).name == "new.png"
            if done == "delete":
                await gone(tmp_path / "new.png")
            assert await lost(heard) == 0
        assert names(tmp_path) == (["new.png", "old.png"] if done == "keep" else [])

    asyncio.run(story())


def test_of_those_put_aside_so_many_are_kept(tmp_path):
    async def story():
        heard = Heard()
        (tmp_path / "done").mkdir()
        (tmp_path / "done" / "before.png").write_bytes(png())
        async with running(source(tmp_path, heard, done_files_max=2)):
            for name in ("a.png", "b.png", "a.png", "c.png"):
                drop(tmp_path, name, png())
                await picture(heard)
                await gone(tmp_path / name)
        assert names(tmp_path / "done") == ["a.png", "c.png"]

    asyncio.run(story())


def test_more_than_may_wait_are_put_aside_unjudged_and_counted(tmp_path):
    async def story():
        heard = Heard()
        made = source(tmp_path, heard, waiting_files_max=2)
        for number in range(10):
            drop(tmp_path, f"p{number}.png", png())
            os.utime(tmp_path / f"p{number}.png", (number + 1, number + 1))
        async with running(made):
            came = [(await picture(heard)).name for _ in range(3)]
            await gone(tmp_path / "p9.png")
        assert came == ["p0.png", "p8.png", "p9.png"]
        assert made._inlet.counts == {"pictures_judged": 3, "pictures_skipped": 7}
        assert len(names(tmp_path / "done")) == 10

    asyncio.run(story())


def test_links_pipes_and_folders_are_no_pictures(tmp_path):
    async def story():
        heard, secret = Heard(), tmp_path / "secret"
        secret.write_bytes(png())
        folder = tmp_path / "camera"
        folder.mkdir()
        (folder / "link.png").symlink_to(secret)
        (folder / "folder.png").mkdir()
        os.mkfifo(folder / "pipe.png")
        drop(folder, "a.png", png())
        async with running(source(folder, heard)):
            assert (await picture(heard)).name == "a.png"
            assert await lost(heard) == 0
        assert secret.exists()

    asyncio.run(story())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FeedFault, match=r"camera: No such file"):
        asyncio.run(source(tmp_path, Heard(), path="camera").run())


FEED = """
[feeds.press]
slot = "slot"
deadline_seconds = 1.0
[feeds.press.sources.cam]
kind = "images"
path = "camera"
signal = "part"
every_seconds = 0.02
settle_seconds = 0
[feeds.press.sinks.journal]
kind = "file"
path = "answers.jsonl"
"""


@pytest.mark.system
def test_a_whole_feed_answers_each_picture_once_as_training_would(tmp_path):
    (tmp_path / "camera").mkdir()
    answers = tmp_path / "answers.jsonl"

    def said() -> list[dict]:
        lines = answers.read_text().splitlines() if answers.exists() else []
        return [json.loads(line) for line in lines]

    def judged() -> list[dict]:
        return [each for each in said() if "picture" in each and each["reason"] != "stale"]

    with FedSlot(tmp_path, FEED, **seen_bundle()) as fed:
        fed.begin_worker()
        fed.begin_feed()
        for number in range(5):
            drop(tmp_path / "camera", f"{number}.png", png(40 * number, seed=number))
            until(lambda want=number: len(judged()) > want, bool)
        drop(tmp_path / "camera", "bad.png", b"no picture")
        until(lambda: "bad.png" in {each["picture"] for each in judged()}, bool)
        found = judged()
        for number, answer in enumerate(found[:5]):
            pixels = decoded(png(40 * number, seed=number))
            assert answer["picture"] == f"{number}.png"
            assert (answer["basis"], answer["quality"]) == ("model", "good")
            np.testing.assert_allclose(
                answer["outputs"]["probabilities"], expected(pixels), rtol=1e-4
            )
        refused = next(each for each in found if each["picture"] == "bad.png")
        assert (refused["basis"], refused["reason"]) == ("constant", "unreadable")
        until(lambda: said()[-1]["reason"] == "stale", bool)
    assert names(tmp_path / "camera" / "done") == [f"{number}.png" for number in range(5)]
