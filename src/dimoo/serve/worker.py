"""One thread owns the model: a bounded queue before it, dynamic batches, progress and cancellation.

    1. the oldest waiting job decides the kind of the batch, so that nobody starves
    2. other waiting jobs of that kind join it, oldest first, up to `max_batch` jobs and `max_ids` ids
    3. the batch is filled step by step; a job is answered as soon as its own page is full; one that nobody waits for
       any more is dropped, and when none is left the rest is not computed
    4. if a batch fails, its members are tried again one by one: a bad request harms nobody else

Answers do not depend on the company: noise comes from each request's own seed (pipeline.py).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dimoo.page.page import Page
from dimoo.pipeline import Pipeline, Prepared, Result
from dimoo.sampling.image import Step
from dimoo.serve.errors import invalid, queue_full, shutting_down
from dimoo.serve.metrics import Metrics
from dimoo.tasks.base import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Started:
    """The job left the queue."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stepped:
    """One step of one job, over its writable positions (N): ids now, the best guess, and the step at which each
    position was fixed (-1 while masked, and where there was nothing to fill)."""

    index: int
    steps: int
    page: Page
    ids: Tensor
    guess: Tensor
    fixed: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """The answer; `page` is full; `fixed` as in `Stepped`."""

    result: Result
    page: Page
    fixed: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Failed:
    """ValueError and ApiError are the client's business, anything else is ours."""

    error: Exception


Event = Started | Stepped | Finished | Failed


@dataclass(kw_only=True, eq=False)
class Job:
    """One request on its way; `post` is called from the worker's thread and must not block."""

    request: Task
    post: Callable[[Event], None]
    wants_steps: bool = False
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    prepared: Prepared | None = None

    def tell(self, event: Event) -> None:
        """Post an event, unless nobody listens any more."""
        if self.cancelled:
            return
        try:
            self.post(event)
        except RuntimeError:  # the listener's event loop is closed
            self.cancelled = True

    @property
    def ids(self) -> int:
        """Length of all pages that this job adds to a batch."""
        assert self.prepared is not None, "a job is prepared before it is measured"
        return sum(len(page) for page in self.prepared.guided.branches)


class Worker:
    """`submit` jobs from any thread; `start` before, `drain` and `stop` after."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        max_waiting: int = 64,
        max_batch: int = 8,
        max_ids: int = 65_536,
        metrics: Metrics | None = None,
    ) -> None:
        self.pipeline, self.max_waiting, self.max_batch, self.max_ids = pipeline, max_waiting, max_batch, max_ids
        self.metrics = metrics or Metrics()
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._draining = False
        self._seconds = 1.0  # a running average of the time that one job takes, for Retry-After
        self._thread = threading.Thread(target=self._loop, name="dimoo-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """All jobs or none. ApiError 429 if the queue has no room for them, 503 once draining."""
        if len(jobs) > self.max_waiting:
            raise invalid(f"at most {self.max_waiting} at a time here, got {len(jobs)}", "n")
        with self._changed:
            self._expect_room(len(jobs))
            self._waiting.extend(jobs)
            self._count()
            self._changed.notify_all()

    def expect_room(self) -> None:
        """ApiError as of `submit`, if there is no room for one job now."""
        with self._changed:
            self._expect_room(1)

    def _expect_room(self, jobs: int) -> None:
        if self._draining:
            raise shutting_down()
        if len(self._waiting) + jobs > self.max_waiting:
            raise queue_full(len(self._waiting), self._retry_after())

    def abandon(self) -> None:
        """Drain, and hand back what runs as well (503): there is no time left to finish it."""
        self.drain()
        with self._changed:
            running = list(self._running)
        for job in running:
            job.tell(Failed(error=shutting_down("was not finished")))
            job.cancelled = True

    def cancel(self, job: Job) -> None:
        """Nobody waits for this job any more."""
        job.cancelled = True
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._count()

    def position(self, job: Job) -> int | None:
        """How many jobs are before this one in the queue; None once it left it."""
        with self._changed:
            return self._waiting.index(job) if job in self._waiting else None

    def drain(self) -> None:
        """Take no more jobs, hand back those not begun (503), finish those that run."""
        with self._changed:
            self._draining = True
            left, self._waiting = list(self._waiting), deque()
            self._count()
            self._changed.notify_all()
        for job in left:
            job.tell(Failed(error=shutting_down()))

    def stop(self, timeout: float | None = None) -> bool:
        """Drain and wait for what runs; whether the thread has ended."""
        self.drain()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Alive, not draining, and with room in the queue."""
        return self.alive and not self._draining and len(self._waiting) < self.max_waiting

    @property
    def idle(self) -> bool:
        with self._changed:
            return not self._waiting and not self._running

    def _retry_after(self) -> int:
        return max(1, min(600, math.ceil(self._seconds * len(self._waiting))))

    def _count(self) -> None:
        self.metrics.depth.set(len(self._waiting))
        self.metrics.running.set(len(self._running))

    def _loop(self) -> None:
        while (head := self._next()) is not None:
            try:
                batch = self._batch(head)
                start = time.monotonic()
                for job in batch:
                    self.metrics.queue_seconds.observe(start - job.arrived)
                    job.tell(Started())
                if batch:
                    self.metrics.batch_size.observe(len(batch))
                    self._run(batch)
                    self._seconds += 0.2 * ((time.monotonic() - start) / len(batch) - self._seconds)
            except Exception:  # whatever happens, the next job finds a worker
                log.exception("the worker failed outside a request")
            finally:
                with self._changed:
                    self._running = []
                    self._count()

    def _next(self) -> Job | None:
        """The oldest waiting job; None when draining and none is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._draining)
            if not self._waiting:
                return None
            job = self._waiting.popleft()
            self._running = [job]
            self._count()
            return job

    def _batch(self, head: Job) -> list[Job]:
        """The head and those that can be filled with it. A job that cannot be prepared is answered here."""
        if not self._prepare(head):
            return []
        assert head.prepared is not None, "prepared just now"
        batch, ids = [head], head.ids
        with self._changed:
            others = list(self._waiting)
        for job in others:
            if len(batch) >= self.max_batch:
                break
            if not self._alike(job, head.prepared):
                continue
            prepared = self._prepare(job)
            fits = prepared and job.prepared is not None and job.prepared.kind == head.prepared.kind
            if prepared and not (fits and ids + job.ids <= self.max_ids):
                continue
            with self._changed:
                if job not in self._waiting:  # cancelled or handed back meanwhile
                    continue
                self._waiting.remove(job)
                if fits:
                    batch.append(job)
                    ids += job.ids
                    self._running.append(job)
                self._count()
        return batch

    def _alike(self, job: Job, head: Prepared) -> bool:
        """Whether it is worth preparing a job for this batch: a cheap look at its settings."""
        try:
            return job.request.settings(self.pipeline.tools) == head.settings
        except Exception:  # it is told what is wrong when its turn comes
            return False

    def _prepare(self, job: Job) -> bool:
        """Lay out the job's page; if that fails, tell it why."""
        if job.cancelled:
            return False
        if job.prepared is None:
            try:
                job.prepared = self.pipeline.prepare(job.request)
            except Exception as error:
                job.tell(Failed(error=error))
                return False
            if job.ids > self.max_ids:
                job.tell(
                    Failed(error=invalid(f"{job.ids:,} ids are too many: at most {self.max_ids:,} at a time here"))
                )
                return False
        return True

    def _run(self, batch: list[Job]) -> None:
        live = dict(enumerate(batch))
        try:
            self._fill(batch, live)
        except Exception as error:
            if len(batch) == 1:
                for job in live.values():
                    job.tell(Failed(error=error))
                return
            log.warning("a batch of %d failed (%s); its members are tried one by one", len(batch), type(error).__name__)
            for job in list(live.values()):
                self._run([job])

    def _fill(self, batch: list[Job], live: dict[int, Job]) -> None:
        """Fill a batch; who is answered or gone leaves `live`, and when it is empty the work ends."""
        start = time.perf_counter()
        fixed = {position: _nothing_fixed(job) for position, job in live.items()}
        step: Step | None = None
        for step in self._steps([job.prepared for job in batch if job.prepared is not None]):
            for position, job in list(live.items()):
                if job.cancelled:
                    del live[position]
                    continue
                fixed[position] = torch.where(step.revealed[position], step.index, fixed[position])
                if not bool((step.ids[position] == self.pipeline.tools.vocab.mask).any()):
                    self._finish(job, step, position, start, fixed[position])
                    del live[position]
                elif job.wants_steps:
                    job.tell(_stepped(step, position, fixed[position]))
            if not live:
                return
        for position, job in live.items():
            assert step is not None, "a page with something to fill takes a step"
            self._finish(job, step, position, start, fixed[position])

    def _steps(self, prepared: list[Prepared]) -> Iterator[Step]:
        """The batch's steps, timed."""
        steps: Any = self.pipeline.fill(prepared)
        try:
            while True:
                start = time.perf_counter()
                step = next(steps, None)
                if step is None:
                    return
                self.metrics.step_seconds.observe(time.perf_counter() - start)
                yield step
        finally:
            steps.close()

    def _finish(self, job: Job, step: Step, position: int, start: float, fixed: Tensor) -> None:
        assert job.prepared is not None, "a job is prepared before it is filled"
        try:
            result = self.pipeline.finish(job.prepared, step, position, start)
        except Exception as error:
            job.tell(Failed(error=error))
            return
        self.metrics.images.inc(result.picture is not None)
        self.metrics.tokens.inc(len(step.ids[position]))
        job.tell(Finished(result=result, page=step.page(position), fixed=fixed))


def _nothing_fixed(job: Job) -> Tensor:
    assert job.prepared is not None, "a job is prepared before it is filled"
    return torch.full((int(job.prepared.guided.page.writable.sum()),), -1)


def _stepped(step: Step, position: int, fixed: Tensor) -> Stepped:
    return Stepped(
        index=step.index,
        steps=step.steps,
        page=step.pages[position],
        ids=step.ids[position],
        guess=step.guess[position],
        fixed=fixed,
    )
