"""The web page: a tab for each family of tasks, a chat, a gallery; mounted at `/`, without any external resource."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncGenerator
from typing import Any

import gradio as gr
from fastapi import FastAPI
from PIL import Image

from dimoo.serve.chat import drafted
from dimoo.serve.errors import ApiError
from dimoo.serve.schema import ChatBody, ChatMessage
from dimoo.serve.service import Service
from dimoo.serve.web_runs import Kept, read_file, watch
from dimoo.serve.web_tabs import Tab, draw_tab, edit_tab, outpaint_tab, retouch_tab
from dimoo.tasks.understand import Message

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"]
CSS = """
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important; }
.status { min-height: 1.6em; }
.result img { width: 100%; height: 100%; object-fit: contain; }
.live { display: flex; gap: .75rem; flex-wrap: wrap; }
.live figure { margin: 0; flex: 1 1 140px; min-width: 0; max-width: 320px; }
.live img { width: 100%; border-radius: 6px; }
.live img.pixelated { image-rendering: pixelated; }
.live figcaption { font-size: .8rem; opacity: .75; }
progress { width: 100%; }
"""
# Words that appear while a run goes on are read aloud by screen readers.
JS = """() => document.querySelectorAll('.status').forEach(e => { e.setAttribute('aria-live', 'polite'); })"""


def mount_page(app: FastAPI, service: Service) -> None:
    """Put the page at `/`. With keys, a key is the password (any user name)."""
    limits = service.settings.limits
    # Gradio decodes what is painted by itself; Pillow refuses beyond twice this.
    Image.MAX_IMAGE_PIXELS = limits.picture_pixels
    for name in ("httpx", "gradio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    page = build(service)
    page.queue(default_concurrency_limit=limits.waiting, max_size=limits.waiting, api_open=False)
    keys = [key.encode() for key in service.settings.keys]

    def admits(_: str, password: str) -> bool:
        return any([hmac.compare_digest(password.encode(), key) for key in keys])

    gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=admits if keys else None,
        max_file_size=limits.body_bytes,
        theme=gr.themes.Default(font=FONTS, font_mono=MONO),
        css=CSS,
        js=JS,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
    )


def build(service: Service) -> gr.Blocks:
    """The page over one service."""
    title = service.pipeline.tools.defaults.name
    with gr.Blocks(title=f"dimoo: {title}", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"## {title}")
        shelf = gr.State([], time_to_live=3600)
        gallery = gr.Gallery(
            label="Made in this session",
            format="png",
            columns=4,
            height=420,
            render=False,
            interactive=False,
            buttons=["download"],
        )
        with gr.Tabs() as tabs:
            with gr.Tab("Draw", id="draw"):
                draw, size = draw_tab(service, shelf, gallery)
                with gr.Row():
                    sends = {name: gr.Button(words, min_width=100) for name, words in SENDS.items()}
            with gr.Tab("Retouch", id="retouch"):
                retouch = retouch_tab(service, shelf, gallery)
            with gr.Tab("Outpaint", id="outpaint"):
                outpaint = outpaint_tab(service, shelf, gallery)
            with gr.Tab("Edit", id="edit"):
                edit = edit_tab(service, shelf, gallery, controls=False)
            with gr.Tab("Control", id="control"):
                control = edit_tab(service, shelf, gallery, controls=True)
            with gr.Tab("Ask", id="ask"):
                box = ask_tab(service)
            with gr.Tab("Gallery", id="gallery"):
                gallery_tab(shelf, gallery, tabs, [draw, retouch, outpaint, edit, control], size)
        _wire_sends(sends, draw, retouch, edit, box, tabs)
    return page


SENDS = {"retouch": "Retouch this", "edit": "Edit this", "ask": "Ask about this"}


def _wire_sends(sends: dict[str, Any], draw: Tab, retouch: Tab, edit: Tab, box: Any, tabs: gr.Tabs) -> None:
    """Take the drawn picture to another tab."""
    choose, opened = retouch.picture
    source = draw.form.result
    moves = [
        (sends["retouch"], choose, opened, "retouch"),
        (sends["edit"], lambda path: gr.skip() if path is None else path, [edit.picture], "edit"),
        (sends["ask"], lambda path: gr.skip() if path is None else {"text": "", "files": [path]}, [box], "ask"),
    ]
    for button, move, outputs, target in moves:
        event = button.click(move, source, outputs, show_progress="hidden")
        event.then(lambda target=target: gr.Tabs(selected=target), None, tabs, show_progress="hidden")


def ask_tab(service: Service) -> gr.MultimodalTextbox:
    """A conversation about one or several pictures; the answer appears with its gaps while it is filled."""
    turns = gr.State([], time_to_live=3600)
    chat = gr.Chatbot(label="Conversation", height=420, buttons=[])
    status = gr.Markdown("Ready.", elem_classes="status")
    box = gr.MultimodalTextbox(
        label="Question", placeholder="What is in the picture?", file_count="multiple", file_types=["image"]
    )
    with gr.Row():
        cancel = gr.Button("Cancel", min_width=100)
        clear = gr.Button("New conversation", min_width=100)

    async def ask(value: Any, shown: list[Any], done: list[Message]) -> AsyncGenerator[tuple[Any, ...], None]:
        words, files = (value or {}).get("text") or "", (value or {}).get("files") or []
        try:
            pictures = tuple(read_file(service, path) for path in files)
            service.translator.check_words("".join([words, *(turn.words for turn in done)]))
            if not words.strip():
                raise ValueError("ask a question")
            body = ChatBody(messages=[ChatMessage(role="user", content=words)])
            task = service.translator.chat_text(body, words, pictures, tuple(done))[0]
        except (ApiError, ValueError) as error:
            yield gr.skip(), gr.skip(), gr.skip(), f"⚠ {error}"
            return
        asked = [{"role": "user", "content": {"path": path}} for path in files]
        shown = [*shown, *asked, {"role": "user", "content": words}]
        tokenizer = service.pipeline.tools.text
        async for view in watch(service, task):
            if view.finished is not None:
                answer = view.finished.result.text or ""
                done = [*done, Message(words=words, pictures=pictures, answer=answer)]
                yield None, [*shown, {"role": "assistant", "content": answer or "(no words)"}], done, view.status
            elif view.step is not None:
                draft = drafted(tokenizer, view.step)
                yield gr.skip(), [*shown, {"role": "assistant", "content": draft}], gr.skip(), view.status
            else:
                yield gr.skip(), shown, gr.skip(), view.status

    event = box.submit(ask, [box, chat, turns], [box, chat, turns, status], show_progress="hidden")
    cancel.click(lambda: "Cancelled.", None, status, cancels=[event], queue=False)
    clear.click(lambda: ([], [], "Ready."), None, [chat, turns, status], cancels=[event], queue=False)
    return box


def gallery_tab(shelf: gr.State, gallery: gr.Gallery, tabs: gr.Tabs, drawing: list[Tab], size: gr.Dropdown) -> None:
    """What was made, and a way back to how it was made."""
    gallery.render()
    chosen = gr.State(0)
    details = gr.JSON(label="Settings of the chosen picture", open=True)
    again = gr.Button("Use these settings again", variant="primary")

    def select(kept: list[Kept], event: gr.SelectData) -> tuple[int, dict[str, Any]]:
        index = int(event.index)
        return index, kept[index].settings

    def reuse(kept: list[Kept], index: int) -> list[Any]:
        if not kept:
            return [gr.skip()] * (2 + 6 * len(drawing))
        settings = kept[min(index, len(kept) - 1)].settings
        target = tab_of(settings)
        values: list[Any] = [gr.Tabs(selected=target)]
        values.append(f"{settings['width']}x{settings['height']}" if target == "draw" else gr.skip())
        for tab in drawing:
            values += reuse_values(settings) if tab.id == target else [gr.skip()] * 6
        return values

    gallery.select(select, shelf, [chosen, details], show_progress="hidden")
    outputs = [tabs, size, *(component for tab in drawing for component in tab.form.settings)]
    again.click(reuse, [shelf, chosen], outputs, show_progress="hidden")


def reuse_values(settings: dict[str, Any]) -> list[Any]:
    """Values for `Form.settings`: the same seed, and no new one."""
    kept = [settings[name] for name in ("steps", "cfg_scale", "temperature")]
    return [settings["prompt"], *(gr.skip() if value is None else value for value in kept), settings["seed"], False]


def tab_of(settings: dict[str, Any]) -> str:
    """The tab where a kept picture was made."""
    if settings["task"] == "edit":
        return "control" if settings["edit_type"].endswith(("_control", "_pred")) else "edit"
    return {"text_to_image": "draw", "inpaint": "retouch", "outpaint": "outpaint"}[settings["task"]]
