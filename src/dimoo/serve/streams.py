"""Answers that flow and answers that wait: server-sent events, and leaving when the client leaves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from dimoo.serve.errors import ApiError, internal
from dimoo.serve.service import request_id

log = logging.getLogger(__name__)
T = TypeVar("T")
NO_BUFFERING = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ClientGone(Exception):
    """The client left before its answer was ready."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled if the client leaves (ClientGone). The body must have been read."""
    task = asyncio.ensure_future(work)
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await task
    except asyncio.CancelledError:
        if gone:
            raise ClientGone from None
        task.cancel()
        raise
    finally:
        watcher.cancel()


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    return format_sse_event(data_str=json.dumps(data), event=name)


DONE = format_sse_event(data_str="[DONE]")
KEEPALIVE = KEEPALIVE_COMMENT


async def stream(request: Request, events: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """A streamed response that begins once the first event is there, so that early errors have their status.

    An error after that is an event with an `error` object, as the OpenAI client expects it.
    """
    first = await while_connected(request, anext(events))  # type: ignore[arg-type]

    async def body() -> AsyncIterator[bytes]:
        try:
            yield first
            async for one in events:
                yield one
        except ApiError as error:
            yield event(error.body())
        except Exception:
            log.exception("%s failed in its stream", request_id.get())
            yield event(internal(request_id.get()).body())
        finally:
            await events.aclose()

    return StreamingResponse(body(), media_type="text/event-stream", headers=NO_BUFFERING)
