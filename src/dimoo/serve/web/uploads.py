"""Pictures that a visitor brings: read under the same checks as over HTTP, brought to a size that can be drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from dimoo.serve.pictures import PictureReader
from dimoo.serve.service import Service

GONE = "the server has put this picture away: choose it again"


def picture_input(label: str) -> gr.Image:
    """A place for a picture; it hands on the file as it came."""
    made = gr.Image(label=label, type="filepath", image_mode=None, sources=["upload", "clipboard"], height=260)
    read = made.preprocess

    def preprocess(payload: Any) -> Any:
        try:
            return read(payload)
        except FileNotFoundError:
            raise gr.Error(GONE) from None

    made.preprocess = preprocess
    return made


def reader_of(service: Service, earlier: Sequence[Image.Image] = ()) -> PictureReader:
    """A reader for what the limits leave beside the pictures that came earlier."""
    limits = service.settings.limits
    used = sum(picture.width * picture.height for picture in earlier)
    return PictureReader(limits.picture_pixels - used, limits.pictures - len(earlier))


def read_file(service: Service, path: str | None, reader: PictureReader | None = None) -> Image.Image:
    """The picture in an uploaded file, one of those of `reader`. ValueError if there is none (any more), ApiError if it
    is no good."""
    if path is None:
        raise ValueError("choose a picture first")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(GONE) from None
    return (reader or reader_of(service)).read(data, "image")


def within(picture: Image.Image, pixels: int, cell: int) -> Image.Image:
    """The picture with sides that are multiples of a cell: its middle, every pixel as it was; scaled down first if it
    has more than so many pixels, and up if it is smaller than a cell."""
    scale = min(1.0, (pixels / (picture.width * picture.height)) ** 0.5)
    scale = max(scale, cell / picture.width, cell / picture.height)
    if scale != 1.0:
        sides = (max(cell, int(side * scale)) for side in picture.size)
        picture = picture.resize((next(sides), next(sides)), Image.Resampling.LANCZOS)
    width, height = (side // cell * cell for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def taken(path: str | None) -> Any:
    """A picture from another tab, if there is one."""
    return gr.skip() if path is None else path
