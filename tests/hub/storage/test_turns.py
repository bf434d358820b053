"""Writers of one process take turns: none is passed by those who came after it."""

import threading
from pathlib import Path

import pytest

from muster_hub.storage import models
from muster_hub.storage.turns import Turns
from support.hub_store import open_store


def test_writers_have_their_turn_in_the_order_they_came() -> None:
    turns, order = Turns(), []
    came = [threading.Event() for _ in range(8)]
    threads = []

    def write(number: int) -> None:
        came[number].set()
        with turns.mine():
            order.append(number)

    with turns.mine():
        for number, event in enumerate(came):
            thread = threading.Thread(target=write, args=(number,))
            thread.start()
            threads.append(thread)
            assert event.wait(60)
            while turns.waiting <= number:
                pass
    for thread in threads:
        thread.join(60)
    assert order == list(range(8))


def test_a_writer_that_fails_lets_the_next_one_go(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    def fail() -> None:
        with store.write() as session:
            session.add(models.Device(id="dev-1", created=0.0))
            session.flush()
            assert 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.write() as session:
        assert session.get(models.Device, "dev-1") is None
    store.close()
