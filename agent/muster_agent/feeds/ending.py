"""Ending tasks for certain, whatever the drivers in them make of it."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.2


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they have ended; what they raise is of no interest any more.

    Once is not enough: ``asyncio.wait_for`` of Python 3.11, which drivers are built on, loses a
    cancellation that comes together with what it waits for.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()
