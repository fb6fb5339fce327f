"""The tab of what was made: the session's pictures, how each was made, and a way back to that."""

from __future__ import annotations

from typing import Any

import gradio as gr

from dimoo.serve.web.form import Tab
from dimoo.serve.web.shelf import Gallery, Shelf


def gallery_tab(gallery: Gallery, tabs: gr.Tabs, drawing: list[Tab]) -> None:
    """The pictures, the settings of the one that is looked at, and a button that fills its tab's form with them."""
    gallery.pictures.render()
    details = gr.JSON(label="Settings of the chosen picture", open=True)
    again = gr.Button("Use these settings again", variant="primary")

    def select(shelf: Shelf, event: gr.SelectData) -> dict[str, Any] | None:
        kept = shelf.choose(file_of(event.value))
        return None if kept is None else kept.settings

    def close(shelf: Shelf) -> None:
        shelf.chosen = None

    def reuse(shelf: Shelf, settings: dict[str, Any] | None) -> dict[Any, Any]:
        if settings is None:
            settings = shelf.kept[0].settings if shelf.kept else None
        if settings is None:
            return {tabs: gr.skip()}
        target = next(tab for tab in drawing if tab.form.id == tab_of(settings))
        size = {} if target.size is None else {target.size: f"{settings['width']}x{settings['height']}"}
        return {tabs: gr.Tabs(selected=target.form.id), **target.form.filled(settings), **size}

    gallery.pictures.select(select, gallery.shelf, details, show_progress="hidden")
    gallery.pictures.preview_close(close, gallery.shelf, None, show_progress="hidden")
    sizes = [tab.size for tab in drawing if tab.size is not None]
    outputs = [tabs, *sizes, *(component for tab in drawing for component in tab.form.settings)]
    again.click(reuse, [gallery.shelf, details], outputs, show_progress="hidden")


def file_of(value: Any) -> str:
    """The file of a gallery's picture, as a select event tells it."""
    return str(value["image"]["path"])


def tab_of(settings: dict[str, Any]) -> str:
    """The tab where a kept picture was made."""
    if settings["task"] == "edit":
        return "control" if settings["edit_type"].endswith(("_control", "_pred")) else "edit"
    return {"text_to_image": "draw", "inpaint": "retouch", "outpaint": "outpaint"}[settings["task"]]
