"""Batches of requests filled side by side, each worker a process with its own pipeline and its share of the threads.

In: a way to load a pipeline, a number of workers, batches of requests. Out: what each batch gives, in order. The matrix
products of one small batch share threads badly, and a second thread of Python's waits for the first (docs/log.md).
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from dimoo.pipeline import Pipeline
from dimoo.tasks.base import Picture, Task

Filled = tuple[Picture | None, str | None]  # a result's picture and text, without the tensors

_pipe: Pipeline  # a worker's own, set as it begins


def fill(pipe: Pipeline, requests: Sequence[Task]) -> list[Filled]:
    return [(result.picture, result.text) for result in pipe.run_batch(requests)]


def side_by_side(
    load: Callable[[], Pipeline], workers: int, batches: Sequence[Sequence[Task]]
) -> Generator[list[Filled], None, None]:
    """What `fill` gives for each batch, in order. `load` is pickled. What a worker raises is raised here;
    ChildProcessError for one that is gone."""
    threads = max(1, torch.get_num_threads() // workers)
    # Spawned: a fork of a process whose threads have multiplied matrices may hang in the first product.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(batches)) or 1, mp_context=context, initializer=_begin, initargs=(load, threads)
    ) as pool:
        try:
            yield from pool.map(_fill, batches)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"one of {workers} workers ended before its work did, most likely for want of memory: take fewer"
            ) from error


def _begin(load: Callable[[], Pipeline], threads: int) -> None:
    global _pipe
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback of its own
    torch.set_num_threads(threads)
    _pipe = load()


def _fill(requests: Sequence[Task]) -> list[Filled]:
    return fill(_pipe, requests)
