"""The asynchronous side of the worker: submit requests, follow their events, leave when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from dimoo.serve.errors import out_of_time
from dimoo.serve.worker import Event, Failed, Finished, Job, Stepped, Worker
from dimoo.tasks.base import Task

GLANCE = 0.5  # seconds between two looks at the place in the queue


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Still in the queue, with so many before it."""

    position: int


@dataclass(frozen=True, kw_only=True)
class Running:
    """Being filled, with nothing to show for it."""


async def follow(
    worker: Worker, requests: Sequence[Task], *, seconds: float, steps: bool = False, latest: bool = False
) -> AsyncGenerator[tuple[int, Event | Waiting | Running], None]:
    """(index, event) of all requests until all are finished.

    The requests enter the queue together or not at all (ApiError). The first that fails ends it with its error; so
    does the time limit (ApiError 504). Whoever stops listening (close the iterator) cancels what is left. `latest`
    leaves out steps that are older than another one already there.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    def poster(index: int) -> Callable[[Event], None]:
        def post(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, (index, event))

        return post

    jobs = [Job(request=one, post=poster(i), wants_steps=steps) for i, one in enumerate(requests)]
    end = time.monotonic() + seconds
    worker.submit(jobs)
    left = len(jobs)
    try:
        while left:
            try:
                index, event = await asyncio.wait_for(events.get(), min(GLANCE, max(0.0, end - time.monotonic())))
            except TimeoutError:
                if time.monotonic() >= end:
                    raise out_of_time(seconds) from None
                for i, job in enumerate(jobs):
                    position = worker.position(job)
                    yield i, Running() if position is None else Waiting(position=position)
                continue
            if latest and isinstance(event, Stepped) and not events.empty():
                continue
            if isinstance(event, Failed):
                raise event.error
            left -= isinstance(event, Finished)
            yield index, event
    finally:
        for job in jobs:
            worker.cancel(job)
