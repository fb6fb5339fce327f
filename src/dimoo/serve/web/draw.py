"""The tab that draws from words."""

from __future__ import annotations

import gradio as gr

from dimoo.serve.schema import GenerationBody
from dimoo.serve.service import Service
from dimoo.serve.translate import AnyTask
from dimoo.serve.web.form import Tab, Values, form, wire
from dimoo.serve.web.shelf import Gallery


def draw_tab(service: Service, gallery: Gallery) -> Tab:
    with form(
        service,
        "draw",
        label="What shall be drawn?",
        words="a red fox to the left of a green tree",
        verb="Draw",
    ) as made:
        size = gr.Dropdown(sizes(service), label="Size (width x height)")

    def make(values: Values) -> AnyTask:
        body = GenerationBody(size=values[size], **made.sampling(values))
        return service.translator.generation(body)[0]

    wire(service, gallery, made, make, reads=[size])
    return Tab(form=made, size=size)


def sizes(service: Service) -> list[str]:
    """Sizes of about the checkpoint's own, a half, two and four times its pixels, as WIDTHxHEIGHT."""
    defaults, factor = service.pipeline.tools.defaults, service.pipeline.tools.image.factor
    found = [f"{defaults.width}x{defaults.height}"]
    area = defaults.width * defaults.height
    for share in (1, 0.5, 2, 4):
        for aspect in (1, 3 / 2, 2 / 3, 2, 1 / 2):
            width, height = (round((area * share * a) ** 0.5 / factor) * factor for a in (aspect, 1 / aspect))
            if min(width, height) >= factor and width * height <= service.translator.output_pixels:
                found.append(f"{width}x{height}")
    return list(dict.fromkeys(found))
