"""What the page does with the model: run a task while showing it.

In: a task. Out: `View`s, which the tabs put on the screen: words, a live picture, a map of what was fixed when.
The same `Service` as behind HTTP, so the same limits.
"""

from __future__ import annotations

import html
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from PIL import Image

from dimoo.serve.errors import ApiError
from dimoo.serve.follow import Waiting
from dimoo.serve.pictures import encode_picture, to_data_url
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask
from dimoo.serve.worker import Finished, Stepped

INTERVAL = 0.12  # seconds between two previews


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A moment of a run; `live` is the HTML of bar, preview and map; `finished` is set on the last."""

    status: str
    live: str = ""
    finished: Finished | None = None
    step: Stepped | None = None


async def watch(service: Service, task: AnyTask) -> AsyncGenerator[View, None]:
    """The run of one task as views, at most one each `INTERVAL`. Errors are a last view that says what is wrong."""
    start = shown = time.monotonic()
    yield View(status="Sent.")
    try:
        async with aclosing(service.events([task], steps=True, latest=True)) as events:
            async for _, event in events:
                if isinstance(event, Waiting):
                    yield View(status=f"In the queue, {event.position} before you.")
                elif isinstance(event, Finished):
                    seconds = time.monotonic() - start
                    steps = event.result.steps
                    status = f"Done in {seconds:.1f} s, {steps} steps, seed {task.seed}."
                    yield View(status=status, live=_final(service, event), finished=event)
                elif isinstance(event, Stepped) and time.monotonic() - shown >= INTERVAL:
                    shown = time.monotonic()
                    yield View(status=_progress_words(event), live=_live(service, event), step=event)
    except ApiError as error:
        yield View(status=f"⚠ {error.message}")


def with_seed(task: AnyTask, seed: float | None, fresh: bool) -> AnyTask:
    """The task with the form's seed, unless a new one is wanted: it already has one, drawn by lot. ValueError for a
    seed that is none."""
    if not fresh and seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"a seed lies between 0 and 2^63 - 1, got {seed:.0f}")
    return task if fresh or seed is None else replace(task, seed=int(seed))


def _progress_words(step: Stepped) -> str:
    masked = int((step.ids == step.page.vocab.mask).sum())
    return f"Step {step.index + 1} of {step.steps}: {len(step.ids) - masked} of {len(step.ids)} places are fixed."


def _live(service: Service, step: Stepped) -> str:
    bar = f'<progress max="{step.steps}" value="{step.index + 1}" aria-label="steps"></progress>'
    if step.page.spans[-1].kind != "output":
        return bar
    guess, heat = service.previews.guess(step), service.previews.heat(step, step.steps)
    return bar + _figures((guess, "now", "smooth"), (heat, "fixed early (dark) … late (bright)", "pixelated"))


def _final(service: Service, finished: Finished) -> str:
    if finished.result.picture is None:
        return ""
    heat = service.previews.heat(finished, finished.result.steps)
    return _figures((heat, "fixed early (dark) … late (bright)", "pixelated"), kind="live last")


def _figures(*pictures: tuple[Image.Image, str, str], kind: str = "live") -> str:
    parts = []
    for picture, caption, look in pictures:
        url = to_data_url(encode_picture(picture))
        words = html.escape(caption)
        parts.append(f'<figure><img class="{look}" src="{url}" alt="{words}"><figcaption>{words}</figcaption></figure>')
    return f'<div class="{kind}">{"".join(parts)}</div>'
