"""The tabs that make a picture from a picture: edits by instruction, and controls (from maps, or to maps)."""

from __future__ import annotations

import gradio as gr

from dimoo.serve.schema import EditBody
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask
from dimoo.serve.web.form import Tab, Takes, Values, form, wire
from dimoo.serve.web.shelf import Gallery
from dimoo.serve.web.uploads import picture_input, read_file, reader_of, taken
from dimoo.tasks.edit import EDIT_TYPES

EDITS = [name for name, row in EDIT_TYPES.items() if row.system in ("edit", "subject", "style", "multi_view")]
CONTROLS = [name for name, row in EDIT_TYPES.items() if row.system in ("control", "dense")]


def edit_tab(service: Service, gallery: Gallery) -> Tab:
    with form(
        service,
        "edit",
        label="Instruction",
        words="remove the sun",
        verb="Edit",
        edit=True,
    ) as made:
        kind = gr.Dropdown(EDITS, value=EDITS[0], label="Kind")
        picture = picture_input("Picture")
        with gr.Accordion("Style picture (for image_ref_transfer)", open=False):
            style = picture_input("Style")

    def make(values: Values) -> AnyTask:
        paths = [values[picture], *([values[style]] if values[style] else [])]
        body = EditBody(edit_type=values[kind], **made.sampling(values))
        reader = reader_of(service)
        return service.translator.edit(body, [read_file(service, path, reader) for path in paths], None)[0]

    wire(service, gallery, made, make, reads=[kind, picture, style])
    return Tab(form=made, takes=Takes(take=taken, outputs=[picture]))


def control_tab(service: Service, gallery: Gallery) -> Tab:
    with form(
        service,
        "control",
        label="Instruction",
        words="a small house",
        verb="Make",
        edit=True,
    ) as made:
        kind = gr.Dropdown(CONTROLS, value=CONTROLS[0], label="Kind")
        picture = picture_input("Map or photograph")
        from_photo = gr.Checkbox(label="It is a photograph: make the canny map from it", value=False)

    def make(values: Values) -> AnyTask:
        body = EditBody(edit_type=values[kind], from_photo=values[from_photo], **made.sampling(values))
        return service.translator.edit(body, [read_file(service, values[picture])], None)[0]

    wire(service, gallery, made, make, reads=[kind, picture, from_photo])
    return Tab(form=made)
