"""What stands between the doors (HTTP, the page) and the worker: limits, the content check, metrics, time.

In: tasks. Out: the worker's events, or an `ApiError`. Both doors go through `Service.events`, so that neither can go
around a limit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from contextvars import ContextVar

from dimoo.metadata import KEY, Album, fingerprint, parameters_line, record
from dimoo.pipeline import Pipeline, Result
from dimoo.serve.errors import ApiError, internal, invalid, no_such_model, refused
from dimoo.serve.follow import Running, Waiting, follow
from dimoo.serve.metrics import Metrics
from dimoo.serve.previews import Previews
from dimoo.serve.settings import ServeSettings
from dimoo.serve.translate import AnyTask, Translator, task_name
from dimoo.serve.worker import Event, Finished, Worker
from dimoo.tasks.understand import Understand

log = logging.getLogger(__name__)
request_id: ContextVar[str] = ContextVar("request_id", default="-")


class Service:
    """One loaded model with everything that serves it."""

    def __init__(self, pipeline: Pipeline, settings: ServeSettings) -> None:
        limits = settings.limits
        on_cpu = pipeline.model.device.type == "cpu"
        self.pipeline, self.settings = pipeline, settings
        self.metrics = Metrics()
        self.in_flight = 0  # runs that are followed, whoever asked
        self.worker = Worker(
            pipeline,
            max_waiting=limits.waiting,
            max_batch=limits.batch or (4 if on_cpu else 8),
            max_ids=limits.batch_ids,
            metrics=self.metrics,
        )
        self.translator = Translator(tools=pipeline.tools, limits=limits)
        self.previews = Previews(pipeline.tools.image)
        self.name = "-".join(pipeline.tools.defaults.name.split())
        self.created = int(time.time())
        self.checkpoint = {
            "name": pipeline.tools.defaults.name,
            "fingerprint": fingerprint(pipeline.folder),
            "dtype": str(pipeline.model.dtype).removeprefix("torch."),
            "device": pipeline.model.device.type,
        }

    def expect_room(self) -> None:
        """429 or 503 if a request sent now would not be taken, before its body is read."""
        self.worker.expect_room()

    def expect_model(self, name: str | None) -> None:
        """404 unless the client means this model."""
        if name is not None and name not in (self.name, "dimoo", *self.settings.aliases):
            raise no_such_model(name[:200], self.name)

    async def events(
        self, tasks: Sequence[AnyTask], *, steps: bool = False, latest: bool = False
    ) -> AsyncGenerator[tuple[int, Event | Waiting | Running], None]:
        """(index, event) until all tasks are finished. Every failure is an ApiError; close it to cancel.

        Where pictures are checked, none is shown before: their steps are left out.
        """
        name, start, status = task_name(tasks[0]), time.monotonic(), "cancelled"
        steps = steps and (self.settings.check is None or isinstance(tasks[0], Understand))
        self.in_flight += 1
        if self.settings.log_prompts:
            log.info("%s %s: %s", request_id.get(), name, json.dumps(words_of(tasks[0])))
        try:
            await self._check(words_of(tasks[0]), None)
            seconds = self.settings.limits.seconds
            async with aclosing(follow(self.worker, tasks, seconds=seconds, steps=steps, latest=latest)) as events:
                async for index, event in events:
                    if isinstance(event, Finished) and event.result.picture is not None:
                        await self._check(words_of(tasks[index]), event.result)
                    yield index, event
            status = "ok"
        except ApiError as error:
            status = error.code or str(error.status)
            raise
        except ValueError as error:  # what the package says of a request that cannot be met
            status = "invalid_value"
            raise invalid(str(error)) from error
        except Exception as error:
            status = "internal_error"
            log.exception("%s %s failed", request_id.get(), name)
            raise internal(request_id.get()) from error
        finally:
            self.in_flight -= 1
            self.metrics.requests.labels(task=name, status=status).inc(len(tasks))
            self.metrics.request_seconds.observe(time.monotonic() - start)

    async def results(self, tasks: Sequence[AnyTask]) -> list[Finished]:
        """The answers, in the order of the tasks."""
        done: dict[int, Finished] = {}
        async with aclosing(self.events(tasks)) as events:
            async for index, event in events:
                if isinstance(event, Finished):
                    done[index] = event
        return [done[index] for index in range(len(tasks))]

    async def _check(self, words: str, result: Result | None) -> None:
        check = self.settings.check
        if check is None:
            return
        try:
            reason = await asyncio.to_thread(check, words, None if result is None else result.picture)
        except Exception as error:  # the check's own failure is no fault of the client's, whatever it raised
            log.exception("%s the content check failed", request_id.get())
            raise internal(request_id.get()) from error
        if reason:
            raise refused(reason)

    def metadata(self, result: Result) -> dict[str, str]:
        """Texts for a picture's file: the request and what ran it; of input pictures a digest, no names."""
        if not self.settings.metadata:
            return {}
        defaults = self.pipeline.tools.defaults
        made = record(result, defaults=defaults, checkpoint=self.checkpoint, source=Album().source)
        return {"parameters": parameters_line(made), KEY: json.dumps(made, ensure_ascii=False)}


def words_of(task: AnyTask) -> str:
    """All words that the model reads, those of earlier turns included."""
    if not isinstance(task, Understand):
        return task.prompt
    said = [part for turn in task.history for part in (turn.words, turn.answer) if isinstance(part, str)]
    return "\n".join([*said, task.question])
