"""What a session made: a shelf of pictures in files that carry their requests, and the components that show it.

A picture is one file, written once; the result, the gallery and downloads show that file. A picture is known by its
file, never by its place: while one is looked at, others come in before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from dimoo.serve.pictures import encode_picture
from dimoo.serve.service import Service
from dimoo.serve.translate import task_name
from dimoo.serve.worker import Finished
from dimoo.tasks.edit import Edit

SHELF = 24  # pictures that a session keeps


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A picture of the session: its file, and what made it."""

    file: str
    settings: dict[str, Any]

    @property
    def caption(self) -> str:
        return f"{self.settings['prompt'][:60]} · seed {self.settings['seed']}"


class Shelf:
    """A session's pictures, newest first, and the one that is looked at. Several tabs may add to it at once."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.chosen: Kept | None = None

    def add(self, kept: Kept) -> None:
        self.kept.insert(0, kept)
        del self.kept[SHELF:]

    def choose(self, file: str) -> Kept | None:
        """Look at the picture in this file, if it is still here."""
        self.chosen = next((kept for kept in self.kept if kept.file == file), None)
        return self.chosen

    def shown(self) -> Any:
        """The gallery's new value; what is enlarged stays enlarged."""
        pictures = [(kept.file, kept.caption) for kept in self.kept]
        if self.chosen is None:
            return pictures  # and not a component: for one, Gradio describes the whole gallery anew, in 40 ms
        place = self.kept.index(self.chosen) if self.chosen in self.kept else None
        return gr.Gallery(value=pictures, selected_index=place)


class Gallery:
    """The components that show the shelf: made before the tabs that fill it, placed by `gallery_tab`."""

    def __init__(self) -> None:
        self.shelf = gr.State(Shelf(), time_to_live=3600)
        self.pictures = gr.Gallery(
            label="Made in this session",
            columns=4,
            height=420,
            render=False,
            interactive=False,
            buttons=["download"],
        )


def keep(service: Service, finished: Finished) -> Kept:
    """Write a finished picture where the page's files are, its request inside."""
    task: Any = finished.result.request
    picture = finished.result.picture
    assert picture is not None, "only pictures are kept"
    data = encode_picture(picture, text=service.metadata(finished.result))
    file = save_bytes_to_cache(data, f"{task_name(task)}-{task.seed}.png", cache_dir=get_upload_folder())
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
    return Kept(file=file, settings=settings)
