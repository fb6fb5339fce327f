"""The tab that draws around a picture."""

from __future__ import annotations

import gradio as gr

from dimoo.serve.schema import EditBody
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask
from dimoo.serve.web.form import Tab, Values, form, wire
from dimoo.serve.web.shelf import Gallery
from dimoo.serve.web.uploads import picture_input, read_file, within


def outpaint_tab(service: Service, gallery: Gallery) -> Tab:
    tools = service.pipeline.tools
    factor = tools.image.factor
    with form(
        service,
        "outpaint",
        label="What shall be around it?",
        words="the same place, more of it",
        verb="Outpaint",
    ) as made:
        picture = picture_input("Picture")
        with gr.Row():
            edges = [
                gr.Slider(0, tools.defaults.width, value=0, step=factor, label=f"Add {name}, pixels", min_width=120)
                for name in ("top", "bottom", "left", "right")
            ]

    def make(values: Values) -> AnyTask:
        top, bottom, left, right = (int(values[edge]) for edge in edges)
        start = within(read_file(service, values[picture]), service.translator.output_pixels // 2, factor)
        body = EditBody(expand=(top, bottom, left, right), **made.sampling(values))
        return service.translator.edit(body, [start], None)[0]

    wire(service, gallery, made, make, reads=[picture, *edges])
    return Tab(form=made)
