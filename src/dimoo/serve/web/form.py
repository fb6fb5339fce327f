"""The tabs that draw: from words, retouching, outpainting, editing, controls. Each is a form, a live view, a result.

Every tab is laid out by the same few functions, and every run goes through `drawing`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from dimoo.serve.errors import ApiError
from dimoo.serve.schema import EditBody, GenerationBody
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask
from dimoo.serve.web_runs import Kept, keep, read_file, watch, with_metadata, with_seed, within
from dimoo.tasks.edit import EDIT_TYPES

CANVAS = 512  # pixels of the longer side on which one paints
EDITS = [name for name, row in EDIT_TYPES.items() if row.system in ("edit", "subject", "style", "multi_view")]
CONTROLS = [name for name, row in EDIT_TYPES.items() if row.system in ("control", "dense")]


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """What all drawing tabs have: words, settings, buttons, places for what happens."""

    prompt: gr.Textbox
    steps: gr.Slider
    cfg: gr.Slider
    temperature: gr.Slider
    seed: gr.Number
    fresh: gr.Checkbox
    run: gr.Button
    cancel: gr.Button
    status: gr.Markdown
    live: gr.HTML
    result: gr.Image

    @property
    def settings(self) -> list[Any]:
        """The inputs that "use these settings again" fills, in the order of `reuse_values`."""
        return [self.prompt, self.steps, self.cfg, self.temperature, self.seed, self.fresh]

    @property
    def shown(self) -> list[Any]:
        """The outputs of every run, in the order in which `drawing` yields them."""
        return [self.status, self.live, self.result, self.seed]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tab:
    """A finished tab: its form, and what other tabs may fill."""

    id: str
    form: Form
    picture: Any = None
    canvas: Any = None


def form(service: Service, *, label: str, words: str, verb: str, cfg: float, left: Callable[[], None]) -> Form:
    """Two columns (one on a phone): the form with what `left` adds to it, and what happens."""
    defaults = service.pipeline.tools.defaults
    with gr.Row():
        with gr.Column(min_width=300):
            left()
            prompt = gr.Textbox(label=label, placeholder=words, lines=1, max_lines=4)
            with gr.Row():
                run = gr.Button(verb, variant="primary", min_width=120)
                cancel = gr.Button("Cancel", min_width=100)
            with gr.Accordion("Settings", open=False):
                steps = gr.Slider(1, service.settings.limits.steps, value=defaults.steps, step=1, label="Steps")
                guidance = gr.Slider(0, 15, value=cfg, step=0.1, label="Guidance (cfg_scale)")
                temperature = gr.Slider(0, 2, value=1, step=0.05, label="Temperature")
            with gr.Row():
                seed = gr.Number(label="Seed", precision=0, minimum=0, min_width=120)
                fresh = gr.Checkbox(label="A new seed each time", value=True, min_width=120)
        with gr.Column(min_width=300):
            status = gr.Markdown("Ready.", elem_classes="status")
            result = gr.Image(
                label="Result",
                format="png",
                type="filepath",
                interactive=False,
                height=320,
                buttons=["download", "fullscreen"],
                elem_classes="result",
            )
            live = gr.HTML()
    return Form(
        prompt=prompt,
        steps=steps,
        cfg=guidance,
        temperature=temperature,
        seed=seed,
        fresh=fresh,
        run=run,
        cancel=cancel,
        status=status,
        live=live,
        result=result,
    )


async def drawing(
    service: Service, make: Callable[[], AnyTask], seed: float | None, fresh: bool, shelf: list[Kept]
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Run a task and show it: yields (status, live, result, seed, shelf, gallery)."""
    same = (gr.skip(),) * 2
    try:
        used, task = with_seed(make(), seed, fresh)
    except (ApiError, ValueError) as error:
        yield f"⚠ {error}", "", gr.skip(), gr.skip(), *same
        return
    async for view in watch(service, task):
        if view.finished is None:
            yield view.status, view.live, gr.skip(), used, *same
        else:
            shelf = keep(shelf, view.finished)
            gallery = [(kept.picture, kept.caption) for kept in shelf]
            yield view.status, view.live, with_metadata(service, view.finished), used, shelf, gallery


def wire(made: Form, run: Any, inputs: list[Any], outputs: list[Any]) -> Any:
    """The button and Enter run it; the other button stops it, wherever it is."""
    event = gr.on([made.run.click, made.prompt.submit], run, inputs, outputs, show_progress="hidden")
    made.cancel.click(lambda: ("Cancelled.", ""), None, [made.status, made.live], cancels=[event], queue=False)
    return event


def sampling(steps: float, cfg: float, temperature: float) -> dict[str, Any]:
    return {"num_inference_steps": int(steps), "cfg_scale": cfg, "temperature": temperature}


def sizes(service: Service) -> list[str]:
    """Sizes of about the checkpoint's own, a quarter and twice of it, as WIDTHxHEIGHT."""
    defaults, factor = service.pipeline.tools.defaults, service.pipeline.tools.image.factor
    found = [f"{defaults.width}x{defaults.height}"]
    area = defaults.width * defaults.height
    for share in (1, 0.5, 2, 4):
        for aspect in (1, 3 / 2, 2 / 3, 2, 1 / 2):
            width, height = (round((area * share * a) ** 0.5 / factor) * factor for a in (aspect, 1 / aspect))
            if min(width, height) >= factor and width * height <= service.translator.output_pixels:
                found.append(f"{width}x{height}")
    return list(dict.fromkeys(found))


def draw_tab(service: Service, shelf: gr.State, gallery: gr.Gallery) -> tuple[Tab, gr.Dropdown]:
    size: list[gr.Dropdown] = []
    made = form(
        service,
        label="What shall be drawn?",
        words="a red fox to the left of a green tree",
        verb="Draw",
        cfg=service.pipeline.tools.defaults.cfg_scale,
        left=lambda: size.append(gr.Dropdown(sizes(service), label="Size (width x height)")),
    )

    async def run(
        prompt: str,
        steps: float,
        cfg: float,
        temperature: float,
        seed: float | None,
        fresh: bool,
        wanted: str,
        kept: Any,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        def make() -> AnyTask:
            body = GenerationBody(prompt=prompt, size=wanted, **sampling(steps, cfg, temperature))
            return service.translator.generation(body)[0]

        async for outputs in drawing(service, make, seed, fresh, kept):
            yield outputs

    wire(made, run, [*made.settings, size[0], shelf], [*made.shown, shelf, gallery])
    return Tab(id="draw", form=made), size[0]


def retouch_tab(service: Service, shelf: gr.State, gallery: gr.Gallery) -> Tab:
    """Paint, describe, and again: each round starts from the last one's pixels, kept on this side of the wire."""
    current = gr.State(None, time_to_live=3600)
    rounds = gr.State([], time_to_live=3600)
    parts: dict[str, Any] = {}

    def left() -> None:
        parts["choose"] = gr.UploadButton("Choose a picture", file_types=["image"], type="filepath")
        parts["canvas"] = gr.ImageEditor(
            label="Paint over what shall change",
            type="pil",
            format="png",
            image_mode="RGBA",
            sources=(),
            layers=False,
            transforms=(),
            buttons=[],
            canvas_size=(CANVAS, CANVAS),
            height=440,
            brush=gr.Brush(default_size=48, colors=["#ffffff"], default_color="#ffffff", color_mode="fixed"),
        )
        parts["undo"] = gr.Button("Undo the last round")
        parts["seam"] = gr.Slider(0, 16, value=0, step=1, label="Soft seam outside the mask, pixels")

    made = form(
        service,
        label="What shall be there?",
        words="a green tree",
        verb="Retouch",
        cfg=service.pipeline.tools.defaults.cfg_scale,
        left=left,
    )
    compare = gr.ImageSlider(label="Before and after", format="png", interactive=False, height=320)
    canvas = parts["canvas"]

    def choose(path: str | None) -> tuple[Any, ...]:
        if path is None:
            return (gr.skip(),) * 4
        try:
            tools = service.pipeline.tools
            picture = within(
                read_file(service, path).convert("RGB"), service.translator.output_pixels, tools.image.factor
            )
        except ApiError as error:
            return gr.skip(), gr.skip(), gr.skip(), f"⚠ {error.message}"
        return picture, to_canvas(picture), [], f"{picture.width} x {picture.height} pixels. Now paint."

    async def run(
        prompt: str,
        steps: float,
        cfg: float,
        temperature: float,
        seed: float | None,
        fresh: bool,
        painted: Any,
        seam: float,
        before: Any,
        done: list[Any],
        kept: Any,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        def make() -> AnyTask:
            if before is None:
                raise ValueError("choose a picture first")
            body = EditBody(prompt=prompt, softness=int(seam), **sampling(steps, cfg, temperature))
            return service.translator.edit(body, [before], painted_mask(painted, before.size))[0]

        async for status, live, result, used, shelved, pictures in drawing(service, make, seed, fresh, kept):
            if not isinstance(result, Image.Image):
                yield status, live, result, used, shelved, pictures, *(gr.skip(),) * 4
                continue
            after = result.convert("RGB")
            status += " " + unchanged(before, after, painted_mask(painted, before.size), int(seam))
            last = (after, to_canvas(after), [*done, before][-8:], (before, after))
            yield status, live, result, used, shelved, pictures, *last

    def undo(done: list[Any]) -> tuple[Any, ...]:
        if not done:
            return gr.skip(), gr.skip(), gr.skip(), "There is no earlier round."
        return done[-1], to_canvas(done[-1]), done[:-1], "The last round is undone."

    opened = [current, canvas, rounds, made.status]
    parts["choose"].upload(choose, parts["choose"], opened, show_progress="hidden")
    parts["undo"].click(undo, rounds, opened, show_progress="hidden")
    inputs = [*made.settings, canvas, parts["seam"], current, rounds, shelf]
    wire(made, run, inputs, [*made.shown, shelf, gallery, current, canvas, rounds, compare])
    return Tab(id="retouch", form=made, picture=(choose, opened))


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


def outpaint_tab(service: Service, shelf: gr.State, gallery: gr.Gallery) -> Tab:
    parts: dict[str, Any] = {}
    side = service.pipeline.tools.defaults.width
    factor = service.pipeline.tools.image.factor

    def left() -> None:
        parts["picture"] = picture_input("Picture")
        with gr.Row():
            for name in ("top", "bottom", "left", "right"):
                parts[name] = gr.Slider(0, side, value=0, step=factor, label=f"Add {name}, pixels", min_width=120)

    made = form(
        service,
        label="What shall be around it?",
        words="the same place, more of it",
        verb="Outpaint",
        cfg=service.pipeline.tools.defaults.cfg_scale,
        left=left,
    )

    async def run(
        prompt: str,
        steps: float,
        cfg: float,
        temperature: float,
        seed: float | None,
        fresh: bool,
        path: str | None,
        top: float,
        bottom: float,
        left: float,
        right: float,
        kept: Any,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        def make() -> AnyTask:
            expand = (int(top), int(bottom), int(left), int(right))
            picture = given(service, path)
            room = service.translator.output_pixels // 2
            body = EditBody(prompt=prompt, expand=expand, **sampling(steps, cfg, temperature))
            return service.translator.edit(body, [within(picture, room, factor)], None)[0]

        async for outputs in drawing(service, make, seed, fresh, kept):
            yield outputs

    edges = [parts[name] for name in ("top", "bottom", "left", "right")]
    wire(made, run, [*made.settings, parts["picture"], *edges, shelf], [*made.shown, shelf, gallery])
    return Tab(id="outpaint", form=made, picture=parts["picture"])


def edit_tab(service: Service, shelf: gr.State, gallery: gr.Gallery, *, controls: bool) -> Tab:
    """Edits by instruction; or, with `controls`, pictures from maps and maps from pictures."""
    kinds = CONTROLS if controls else EDITS
    parts: dict[str, Any] = {}

    def left() -> None:
        parts["kind"] = gr.Dropdown(kinds, value=kinds[0], label="Kind")
        parts["picture"] = picture_input("Map or photograph" if controls else "Picture")
        if controls:
            parts["extra"] = gr.Checkbox(label="It is a photograph: make the canny map from it", value=False)
        else:
            with gr.Accordion("Style picture (for image_ref_transfer)", open=False):
                parts["extra"] = picture_input("Style")

    made = form(
        service,
        label="Instruction",
        words="a small house" if controls else "remove the sun",
        verb="Make" if controls else "Edit",
        cfg=service.pipeline.tools.defaults.edit_cfg_scale,
        left=left,
    )

    async def run(
        prompt: str,
        steps: float,
        cfg: float,
        temperature: float,
        seed: float | None,
        fresh: bool,
        kind: str,
        path: str | None,
        extra: Any,
        kept: Any,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        def make() -> AnyTask:
            pictures = [given(service, path)]
            if not controls and extra:
                pictures.append(read_file(service, extra))
            body = EditBody(
                prompt=prompt,
                edit_type=kind,
                from_photo=controls and bool(extra),
                **sampling(steps, cfg, temperature),
            )
            return service.translator.edit(body, pictures, None)[0]

        async for outputs in drawing(service, make, seed, fresh, kept):
            yield outputs

    inputs = [*made.settings, parts["kind"], parts["picture"], parts["extra"], shelf]
    wire(made, run, inputs, [*made.shown, shelf, gallery])
    return Tab(id="control" if controls else "edit", form=made, picture=parts["picture"])


def picture_input(label: str) -> gr.Image:
    return gr.Image(label=label, type="filepath", image_mode=None, sources=["upload", "clipboard"], height=260)


def given(service: Service, path: str | None) -> Image.Image:
    if path is None:
        raise ValueError("choose a picture first")
    return read_file(service, path)
