"""What the page does with the model: run a task while showing it, and keep what was made.

In: tasks. Out: `View`s, which the tabs put on the screen: words, a live picture, a map of what was fixed when.
The same `Service` as behind HTTP, so the same limits.
"""

from __future__ import annotations

import html
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from dimoo.serve.errors import ApiError
from dimoo.serve.follow import Waiting
from dimoo.serve.pictures import PictureReader, encode_picture, to_data_url
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask, task_name
from dimoo.serve.worker import Finished, Stepped
from dimoo.tasks.edit import Edit

INTERVAL = 0.12  # seconds between two previews
SHELF = 24  # pictures that a session keeps


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A moment of a run; `live` is the HTML of bar, preview and map; `finished` is set on the last."""

    status: str
    live: str = ""
    finished: Finished | None = None
    step: Stepped | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A picture on a session's shelf, with what made it."""

    picture: Image.Image
    settings: dict[str, Any]

    @property
    def caption(self) -> str:
        return f"{self.settings['prompt'][:60]} · seed {self.settings['seed']}"


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


def keep(shelf: list[Kept], finished: Finished) -> list[Kept]:
    """The shelf with one more picture, the newest first."""
    picture = finished.result.picture
    assert picture is not None, "only pictures are kept"
    task: Any = finished.result.request
    settings: dict[str, Any] = {
        "task": task_name(task),
        "prompt": task.prompt,
        "seed": task.seed,
        "width": picture.width,
        "height": picture.height,
        "steps": task.options.steps,
        "cfg_scale": task.options.cfg_scale,
        "temperature": task.options.temperature,
    }
    if isinstance(task, Edit):
        settings["edit_type"] = task.type
    return [Kept(picture=picture, settings=settings), *shelf][:SHELF]


def with_metadata(service: Service, finished: Finished) -> Image.Image:
    """The picture so that Gradio's PNG file carries the request."""
    picture = finished.result.picture
    assert picture is not None, "a picture was asked for"
    copy = picture.copy()
    for key, value in service.metadata(finished.result).items():
        copy.info[key] = value
    return copy


def read_file(service: Service, path: str) -> Image.Image:
    """A picture that a visitor uploaded, under the same checks as over HTTP."""
    limits = service.settings.limits
    return PictureReader(limits.picture_pixels, limits.pictures).read(Path(path).read_bytes(), "image")


def within(picture: Image.Image, pixels: int, cell: int) -> Image.Image:
    """The picture, scaled down if it has more than so many pixels, its sides multiples of a cell."""
    scale = min(1.0, (pixels / (picture.width * picture.height)) ** 0.5)
    width, height = (max(cell, int(side * scale) // cell * cell) for side in picture.size)
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)


def with_seed(task: AnyTask, seed: float | None, fresh: bool) -> tuple[float | None, AnyTask]:
    """The task with the seed of the form, unless a fresh one is wanted (the task already has one drawn by lot)."""
    if fresh or seed is None:
        return task.seed, task
    return seed, replace(task, seed=int(seed))


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
    return _figures((heat, "fixed early (dark) … late (bright)", "pixelated"))


def _figures(*pictures: tuple[Image.Image, str, str]) -> str:
    parts = []
    for picture, caption, kind in pictures:
        url = to_data_url(encode_picture(picture))
        words = html.escape(caption)
        parts.append(f'<figure><img class="{kind}" src="{url}" alt="{words}"><figcaption>{words}</figcaption></figure>')
    return f'<div class="live">{"".join(parts)}</div>'
