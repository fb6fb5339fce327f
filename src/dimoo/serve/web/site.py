"""The web page: a tab for each family of tasks, a chat, a gallery; mounted at `/`, without any external resource."""

from __future__ import annotations

import hmac
import logging
from typing import Any, NoReturn

import gradio as gr
from fastapi import FastAPI
from gradio import processing_utils
from PIL import Image

from dimoo.serve.service import Service
from dimoo.serve.web.ask import ask_tab
from dimoo.serve.web.draw import draw_tab
from dimoo.serve.web.edit import control_tab, edit_tab
from dimoo.serve.web.form import Takes
from dimoo.serve.web.gallery import gallery_tab
from dimoo.serve.web.outpaint import outpaint_tab
from dimoo.serve.web.retouch import retouch_tab
from dimoo.serve.web.shelf import Gallery

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
.live.last figure { max-width: 140px; }
.live figcaption { font-size: .8rem; opacity: .75; }
progress { width: 100%; }
"""
# Words that appear while a run goes on are read aloud by screen readers.
JS = """() => document.querySelectorAll('.status').forEach(e => { e.setAttribute('aria-live', 'polite'); })"""


FILES_LAST = 24 * 3600  # seconds that Gradio keeps what was uploaded or drawn, whether or not a page still shows it


def mount_page(app: FastAPI, service: Service) -> None:
    """Put the page at `/`. With keys, a key is the password (any user name)."""
    limits = service.settings.limits
    # Gradio decodes what is painted by itself: Pillow refuses beyond twice this many pixels. It would also fetch what
    # a visitor's browser names by URL: the server asks listed hosts only (fetch.py), and the page none.
    Image.MAX_IMAGE_PIXELS = limits.picture_pixels
    processing_utils.async_ssrf_protected_download = _fetch_nothing
    for name in ("httpx", "gradio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    page = build(service)
    page.has_launched = True  # mounted, not launched: without this Gradio would take any path as a visitor's file
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
    with gr.Blocks(title=f"dimoo: {title}", analytics_enabled=False, delete_cache=(600, FILES_LAST)) as page:
        gr.Markdown(f"## {title}")
        gallery = Gallery()
        with gr.Tabs() as tabs:
            drawing = []
            for name, make in DRAWING.items():
                with gr.Tab(name, id=name.lower()):
                    drawing.append(make(service, gallery))
            with gr.Tab("Ask", id="ask"):
                ask = ask_tab(service)
            with gr.Tab("Gallery", id="gallery"):
                gallery_tab(gallery, tabs, drawing)
        takers = {tab.form.id: tab.takes for tab in drawing if tab.takes is not None} | {"ask": ask}
        for tab in drawing:
            for target, button in tab.form.sends.items():
                _send(button, tab.form.result, takers[target], tabs, target)
    return page


DRAWING = {"Draw": draw_tab, "Retouch": retouch_tab, "Outpaint": outpaint_tab, "Edit": edit_tab, "Control": control_tab}


def _send(button: gr.Button, result: gr.Image, takes: Takes, tabs: gr.Tabs, target: str) -> None:
    """Take a tab's result to another tab, then go there."""
    event = button.click(takes.take, result, takes.outputs, show_progress="hidden")
    event.then(lambda: gr.Tabs(selected=target), None, tabs, show_progress="hidden")


async def _fetch_nothing(*_: Any, **__: Any) -> NoReturn:
    raise ValueError("pictures are uploaded, not fetched")
