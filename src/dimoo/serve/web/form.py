"""What every drawing tab has: words, settings, buttons, a live view, a result; and how a run goes through them.

In: from a tab, what it adds to the form and how a task is made of the values. Out: a wired form. Handlers read and
give back values by component (`Values`), so that a tab names only what is its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dimoo.serve.errors import ApiError
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask
from dimoo.serve.web.runs import View, watch, with_seed
from dimoo.serve.web.shelf import Gallery, Kept, keep
from dimoo.tasks.base import PictureOptions

Values = dict[Any, Any]  # by component

SENDS = {"retouch": "Retouch this", "edit": "Edit this", "ask": "Ask about this"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """The components that all drawing tabs have; `id` is the tab's name."""

    id: str
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
    sends: dict[str, gr.Button]

    @property
    def settings(self) -> list[Any]:
        """The inputs that "use these settings again" fills."""
        return [self.prompt, self.steps, self.cfg, self.temperature, self.seed, self.fresh]

    def sampling(self, values: Values) -> dict[str, Any]:
        """Words and settings as fields of a request's body."""
        return {
            "prompt": values[self.prompt],
            "num_inference_steps": int(values[self.steps] or 0),
            "cfg_scale": values[self.cfg],
            "temperature": values[self.temperature],
        }

    def filled(self, settings: dict[str, Any]) -> Values:
        """Values that repeat a kept picture: its settings and seed, and no new seed."""
        names = {self.steps: "steps", self.cfg: "cfg_scale", self.temperature: "temperature"}
        known = {part: settings[name] for part, name in names.items() if settings[name] is not None}
        return {self.prompt: settings["prompt"], **known, self.seed: settings["seed"], self.fresh: False}


@dataclass(frozen=True, kw_only=True, eq=False)
class Takes:
    """How a picture from another tab enters this one: a handler of its file, and what that fills."""

    take: Callable[[str | None], Any]
    outputs: list[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tab:
    """A finished drawing tab."""

    form: Form
    takes: Takes | None = None
    size: Any = None


@contextmanager
def form(service: Service, id: str, *, label: str, words: str, verb: str, edit: bool = False) -> Iterator[Form]:
    """Two columns (one on a phone): the form, and what happens. What is made within the context stands on top."""
    made = _unrendered(service, id, label=label, words=words, verb=verb, edit=edit)
    with gr.Row():
        with gr.Column(min_width=300):
            yield made
            made.prompt.render()
            with gr.Row():
                made.run.render()
                made.cancel.render()
            with gr.Accordion("Settings", open=False):
                for part in (made.steps, made.cfg, made.temperature):
                    part.render()
            with gr.Row():
                made.seed.render()
                made.fresh.render()
        with gr.Column(min_width=300):
            made.status.render()
            made.result.render()
            with gr.Row():
                for button in made.sends.values():
                    button.render()
            made.live.render()


def _unrendered(service: Service, id: str, *, label: str, words: str, verb: str, edit: bool) -> Form:
    defaults, most = service.pipeline.tools.defaults, service.settings.limits.steps
    steps = min(PictureOptions().settings(defaults, edit=edit).steps, most)
    cfg = defaults.edit_cfg_scale if edit else defaults.cfg_scale
    return Form(
        id=id,
        prompt=gr.Textbox(label=label, placeholder=words, lines=1, max_lines=4, render=False),
        steps=gr.Slider(1, most, value=steps, step=1, label="Steps", render=False),
        cfg=gr.Slider(0, 15, value=cfg, step=0.1, label="Guidance (cfg_scale)", render=False),
        temperature=gr.Slider(0, 2, value=1, step=0.05, label="Temperature", render=False),
        seed=gr.Number(label="Seed", precision=0, minimum=0, min_width=120, render=False),
        fresh=gr.Checkbox(label="A new seed each time", value=True, min_width=120, render=False),
        run=gr.Button(verb, variant="primary", min_width=120, render=False),
        cancel=gr.Button("Cancel", min_width=100, render=False),
        status=gr.Markdown("Ready.", elem_classes="status", render=False),
        live=gr.HTML(render=False),
        result=gr.Image(
            label="Result",
            type="filepath",
            interactive=False,
            height=320,
            buttons=["download", "fullscreen"],
            elem_classes="result",
            render=False,
        ),
        sends={
            name: gr.Button(text, size="sm", min_width=80, render=False) for name, text in SENDS.items() if name != id
        },
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Ended:
    """A run that came to its end: what it was made of, its last view, its picture."""

    values: Values
    view: View
    kept: Kept


def wire(
    service: Service,
    gallery: Gallery,
    made: Form,
    make: Callable[[Values], AnyTask],
    *,
    reads: Sequence[Any] = (),
    then: Callable[[Ended], Values] | None = None,
    fills: Sequence[Any] = (),
) -> None:
    """The button and Enter run what `make` makes of the values; the other button stops it, wherever it is.

    `reads` are a tab's own inputs; `then` gives values of its own outputs (`fills`) for a run that has ended.

    What every view changes is one event, what the end changes a second one: an output that a view leaves alone costs
    more than one that it changes, because Gradio describes the component anew (a gallery: 10 ms).
    """
    ended = gr.State(None, time_to_live=3600)

    async def run(values: Values) -> AsyncGenerator[Values, None]:
        try:
            task = with_seed(await asyncio.to_thread(make, values), values[made.seed], values[made.fresh])
        except (ApiError, ValueError) as error:
            yield {made.status: f"⚠ {error}", made.live: "", made.seed: values[made.seed], ended: None}
            return
        async for view in watch(service, task):
            end = None
            if view.finished is not None:
                kept = await asyncio.to_thread(keep, service, view.finished)
                values[gallery.shelf].add(kept)
                end = Ended(values=values, view=view, kept=kept)
            yield {made.status: view.status, made.live: view.live, made.seed: task.seed, ended: end}

    def show(end: Ended | None) -> Any:
        if end is None:
            return gr.skip()
        shelf = end.values[gallery.shelf]
        own = {} if then is None else then(end)
        return {ended: None, made.result: end.kept.file, gallery.shelf: shelf, gallery.pictures: shelf.shown(), **own}

    inputs = {*made.settings, *reads, gallery.shelf}
    views = [made.status, made.live, made.seed, ended]
    event = gr.on([made.run.click, made.prompt.submit], run, inputs, views, show_progress="hidden")
    results = [ended, made.result, gallery.shelf, gallery.pictures, *fills]
    event.success(show, ended, results, show_progress="hidden")
    stopped = {made.status: "Cancelled.", made.live: ""}
    made.cancel.click(lambda: stopped, None, list(stopped), cancels=[event], queue=False)
