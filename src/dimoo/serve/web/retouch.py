"""The tab that retouches: paint, describe, and again.

Each round starts from the last one's pixels, which stay on this side of the wire: what the browser sends back is used
as a mask only, so that outside it every pixel stays as it was, to the bit.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from gradio.components.base import server
from PIL import Image

from dimoo.serve.errors import ApiError
from dimoo.serve.schema import EditBody
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask
from dimoo.serve.web.form import Ended, Tab, Takes, Values, form, wire
from dimoo.serve.web.shelf import Gallery
from dimoo.serve.web.uploads import read_file, within

CANVAS = 512  # pixels of the longer side on which one paints
LAYERS = 4  # of what is painted; the page offers one
KEPT = 64  # pictures painted on that were sent and not yet used
ROUNDS = 8  # that can be undone


def retouch_tab(service: Service, gallery: Gallery) -> Tab:
    current = gr.State(None, time_to_live=3600)
    rounds = gr.State([], time_to_live=3600)
    with form(
        service,
        "retouch",
        label="What shall be there?",
        words="a green tree",
        verb="Retouch",
    ) as made:
        chooser = gr.UploadButton("Choose a picture", file_types=["image"], type="filepath")
        canvas = bounded(_canvas())
        undo = gr.Button("Undo the last round")
        seam = gr.Slider(0, 16, value=0, step=1, label="Soft seam outside the mask, pixels")
    compare = gr.ImageSlider(
        label="Before and after", format="png", interactive=False, height=320, max_height=318, elem_classes="compare"
    )

    def choose(path: str | None) -> Values:
        if path is None:
            return {made.status: "There is no picture yet."}
        try:
            factor = service.pipeline.tools.image.factor
            brought = read_file(service, path).convert("RGB")
            picture = within(brought, service.translator.output_pixels, factor)
        except (ApiError, ValueError) as error:
            return {made.status: f"⚠ {error}"}
        size, was = f"{picture.width} x {picture.height}", f"{brought.width} x {brought.height}"
        words = f"{size} pixels{'' if size == was else f' of {was}'}. Now paint."
        return {current: picture, canvas: to_canvas(picture), rounds: [], made.status: words}

    def make(values: Values) -> AnyTask:
        before = values[current]
        if before is None:
            raise ValueError("choose a picture first")
        body = EditBody(softness=int(values[seam]), **made.sampling(values))
        return service.translator.edit(body, [before], painted_mask(values[canvas], before.size))[0]

    def then(end: Ended) -> Values:
        before, done = end.values[current], end.values[rounds]
        assert end.view.finished is not None and end.view.finished.result.picture is not None, "a round has a picture"
        after = end.view.finished.result.picture.convert("RGB")
        mask = painted_mask(end.values[canvas], before.size)
        return {
            made.status: f"{end.view.status} {unchanged(before, after, mask, int(end.values[seam]))}",
            current: after,
            canvas: to_canvas(after),
            rounds: [*done, before][-ROUNDS:],
            compare: (before, after),
        }

    def take_back(done: list[Image.Image]) -> Values:
        if not done:
            return {made.status: "There is no earlier round."}
        last = done[-1]
        return {current: last, canvas: to_canvas(last), rounds: done[:-1], made.status: "The last round is undone."}

    opened = [current, canvas, rounds, made.status]
    chooser.upload(choose, chooser, opened, show_progress="hidden")
    undo.click(take_back, rounds, opened, show_progress="hidden")
    own = [canvas, current, rounds]
    wire(service, gallery, made, make, reads=[*own, seam], then=then, fills=[*own, compare, made.status])
    return Tab(form=made, takes=Takes(take=choose, outputs=opened))


def bounded(canvas: Any) -> Any:
    """The editor, keeping no more of what browsers send than it needs: a few layers each, of the last `KEPT`.

    Set on the instance: of a subclass, Gradio writes a stub file beside this one.
    """
    accept, read = canvas.accept_blobs, canvas.preprocess

    def accept_blobs(data: Any) -> None:
        index = data.data.get("index")
        if index and index != "null" and not 0 <= int(index) < LAYERS:
            raise ValueError(f"an editor has at most {LAYERS} layers")
        accept(data)
        while len(canvas.blob_storage) > KEPT:
            canvas.blob_storage.pop(next(iter(canvas.blob_storage)))

    def preprocess(payload: Any) -> Any:
        if len(getattr(payload, "layers", None) or []) > LAYERS:
            raise gr.Error(f"an editor has at most {LAYERS} layers")
        return read(payload)

    canvas.accept_blobs, canvas.preprocess = server(accept_blobs), preprocess
    return canvas


def _canvas() -> gr.ImageEditor:
    white = "#ffffff"
    return gr.ImageEditor(
        label="Paint here",
        type="pil",
        format="png",
        image_mode="RGBA",
        sources=(),
        layers=False,
        transforms=(),
        buttons=[],
        canvas_size=(CANVAS, CANVAS),
        height=440,
        brush=gr.Brush(default_size=48, colors=[white], default_color=white, color_mode="fixed"),
    )


def to_canvas(picture: Image.Image) -> dict[str, Any]:
    """The editor's value: the picture large enough to paint on, nothing painted."""
    scale = CANVAS / max(picture.size)
    shown = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    return {"background": shown.convert("RGBA"), "layers": [], "composite": None}


def painted_mask(value: Any, size: tuple[int, int]) -> Image.Image:
    """Where the brush was, in pixels of the picture (width, height): white on black."""
    layers = (value or {}).get("layers") or []
    if not layers or not np.asarray(layers[0].getchannel("A")).any():
        raise ValueError("nothing is painted: brush over what shall change")
    alpha = layers[0].getchannel("A").point(lambda value: 255 if value else 0)
    return alpha.resize(size, Image.Resampling.NEAREST)


def unchanged(before: Image.Image, after: Image.Image, mask: Image.Image, seam: int) -> str:
    """A sentence on the pixels outside the mask (and its seam)."""
    if seam:
        return f"Outside the mask a seam of {seam} pixels is blended."
    outside = np.asarray(mask) == 0
    differing = int((np.asarray(before) != np.asarray(after)).any(axis=-1)[outside].sum())
    return f"Outside the mask {differing} of {int(outside.sum())} pixels changed."
