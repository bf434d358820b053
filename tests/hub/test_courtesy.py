"""Work in the background pauses while an answer is being made, and never for long."""

import asyncio
import threading

import pytest

from muster_hub.courtesy import ANSWER_SECONDS, LOOK_SECONDS, PAUSE_SECONDS, Answering, Courtesy


class Time:
    """A clock that only a pause or work moves."""

    def __init__(self):
        self.now = 0.0
        self.paused = 0.0

    def sleep(self, seconds):
        self.now += seconds
        self.paused += seconds

    def courtesy(self):
        return Courtesy(self.sleep, lambda: self.now)


def html(*, kind=b"text/html", during=lambda: None, raises=None):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "headers": [(b"content-type", kind)]})
        during()
        if raises is not None:
            raise raises
        await send({"type": "http.response.body", "body": b""})

    return app


def ask(app, courtesy, kind="http"):
    async def nothing(*_):
        return {}

    asyncio.run(Answering(app, courtesy)({"type": kind}, nothing, nothing))


def test_nobody_pauses_while_nobody_waits():
    time = Time()
    courtesy = time.courtesy()
    for _ in range(1000):
        courtesy.give_way()
    assert time.paused == 0


def test_who_works_in_the_background_pauses_while_an_answer_is_made():
    time = Time()
    courtesy = time.courtesy()
    ask(html(during=courtesy.give_way), courtesy)
    paused = time.paused
    assert PAUSE_SECONDS <= paused <= PAUSE_SECONDS + LOOK_SECONDS
    courtesy.give_way()
    assert time.paused == paused, "the answer is out"


def test_the_pause_ends_with_the_answer():
    clock = Time()

    def pause(seconds):
        clock.sleep(seconds)  # of a clock that only this moves
        courtesy.waiting = 0

    courtesy = Courtesy(pause, lambda: clock.now)
    courtesy.waiting = 1
    courtesy.give_way()
    assert clock.paused == LOOK_SECONDS


@pytest.mark.parametrize("work_seconds", [1e-6, 0.0005, 0.01])
def test_who_asks_without_end_slows_the_fleet_by_half_at_most(work_seconds):
    time = Time()
    courtesy = time.courtesy()
    courtesy.waiting = 20
    while time.now < 1.0:
        courtesy.give_way()
        time.now += work_seconds
    assert 0 < time.paused <= 0.5 * time.now + PAUSE_SECONDS + LOOK_SECONDS


def test_each_thread_pauses_for_itself():
    time = Time()
    courtesy = time.courtesy()
    courtesy.waiting = 1
    courtesy.give_way()
    paused = time.paused
    other = threading.Thread(target=courtesy.give_way)
    other.start()
    other.join()
    assert time.paused == pytest.approx(2 * paused)


def test_an_answer_that_fails_is_waited_for_no_more():
    courtesy = Courtesy()
    with pytest.raises(RuntimeError):
        ask(html(raises=RuntimeError("broken")), courtesy)
    assert courtesy.waiting == 0


@pytest.mark.parametrize("kind", [b"text/event-stream", b"text/event-stream; charset=utf-8"])
def test_nobody_waits_for_a_stream_of_events(kind):
    courtesy = Courtesy()
    seen = []
    ask(html(kind=kind, during=lambda: seen.append(courtesy.waiting)), courtesy)
    assert (seen, courtesy.waiting) == ([0], 0)


def test_a_long_upload_is_given_way_for_a_moment_only():
    courtesy = Courtesy()
    seen = []

    async def app(_scope, _receive, _send):
        seen.append(courtesy.waiting)
        elapsed = asyncio.Event()
        asyncio.get_running_loop().call_later(ANSWER_SECONDS + 0.05, elapsed.set)
        await elapsed.wait()
        seen.append(courtesy.waiting)

    ask(app, courtesy)
    assert (seen, courtesy.waiting) == ([1, 0], 0)


def test_what_is_no_request_is_passed_on():
    courtesy = Courtesy()
    seen = []

    async def app(scope, _receive, _send):
        seen.append((scope["type"], courtesy.waiting))

    ask(app, courtesy, kind="lifespan")
    assert seen == [("lifespan", 0)]
