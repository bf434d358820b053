"""A source that is told to end does, also when its driver loses the first word of it."""

import asyncio

from muster_agent.feeds.ending import end


def test_tasks_that_lose_a_cancellation_or_raise_in_it_have_ended_all_the_same():
    async def deaf(times: int) -> None:
        while times:
            try:
                await asyncio.sleep(60)  # It works until it is told to end.
            except asyncio.CancelledError:
                times -= 1

    async def breaks() -> None:
        try:
            await asyncio.sleep(60)  # As above.
        finally:
            raise OSError("the line is gone")

    async def story() -> None:
        tasks = [asyncio.create_task(each) for each in (deaf(1), deaf(2), breaks())]
        await asyncio.sleep(0)  # They begin.
        await end(tasks)
        assert all(task.done() for task in tasks)

    asyncio.run(story())
