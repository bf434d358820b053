"""A disk that takes nothing fails every step; the log says so in one line."""

import logging

from muster_agent.base.news import REPEAT_SECONDS, TEXTS_MAX, News
from support.agent_faults import FullDisk
from support.agent_world import Device, World


def test_a_full_disk_is_one_line_without_a_traceback(tmp_path, caplog):
    world = World()
    device = Device(world, tmp_path)
    disk = FullDisk(1 << 60)
    device.boot(disk)
    world.direct(world.release("1"))
    device.run(60)
    world.direct(world.release("2"))
    disk.at, disk.until = disk.steps + 1, 1 << 60
    with caplog.at_level(logging.ERROR):
        device.run(600)
    assert device.serving == ["1"]
    lines = [record for record in caplog.records if "disk is full" in record.getMessage()]
    assert len(lines) == 1
    assert [record.exc_info for record in caplog.records] == [None] * len(caplog.records)


def test_what_repeats_is_said_again_after_a_while_and_what_is_remembered_is_bounded():
    news = News()
    assert news.is_news("full", 0.0)
    assert not news.is_news("full", REPEAT_SECONDS - 1)
    assert news.is_news("full", REPEAT_SECONDS)
    for number in range(10 * TEXTS_MAX):
        assert news.is_news(f"another {number}", REPEAT_SECONDS)
    assert news.is_news("full", REPEAT_SECONDS + 1)
