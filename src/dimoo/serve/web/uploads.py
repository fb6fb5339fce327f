"""Pictures that a visitor brings: read under the same checks as over HTTP, brought to a size that can be drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from dimoo.serve.pictures import PictureReader
from dimoo.serve.service import Service


def picture_input(label: str) -> gr.Image:
    """A place for a picture; it hands on the file as it came."""
    return gr.Image(label=label, type="filepath", image_mode=None, sources=["upload", "clipboard"], height=260)


def read_file(service: Service, path: str | None) -> Image.Image:
    """The picture in an uploaded file. ValueError if there is none yet, ApiError if it is no good."""
    if path is None:
        raise ValueError("choose a picture first")
    limits = service.settings.limits
    return PictureReader(limits.picture_pixels, limits.pictures).read(Path(path).read_bytes(), "image")


def within(picture: Image.Image, pixels: int, cell: int) -> Image.Image:
    """The picture, scaled down if it has more than so many pixels, its sides multiples of a cell."""
    scale = min(1.0, (pixels / (picture.width * picture.height)) ** 0.5)
    width, height = (max(cell, int(side * scale) // cell * cell) for side in picture.size)
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)


def taken(path: str | None) -> Any:
    """A picture from another tab, if there is one."""
    return gr.skip() if path is None else path
