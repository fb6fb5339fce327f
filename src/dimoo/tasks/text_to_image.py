"""Words in, picture out, at any size that is a multiple of the VQ factor."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from dimoo.page.page import Page, picture_page
from dimoo.page.templates import UNCONDITION
from dimoo.sampling.guidance import Guided
from dimoo.sampling.settings import ImageSettings
from dimoo.tasks.base import Answer, PictureOptions, Tools, check_prompt, read_picture
from dimoo.tokenizers.resize import check_size


@dataclass(frozen=True, kw_only=True)
class TextToImage:
    prompt: str
    height: int | None = None
    width: int | None = None
    seed: int = 0
    options: PictureOptions = field(default_factory=PictureOptions)

    def guided(self, tools: Tools) -> Guided:
        check_prompt(self.prompt)
        height = tools.defaults.height if self.height is None else self.height
        width = tools.defaults.width if self.width is None else self.width
        check_size(height, width, tools.image.factor)
        page, unconditional = pages(tools, self.prompt, tools.blank(height, width))
        return Guided(page, ((unconditional, text_scale(tools, self.options)),))

    def settings(self, tools: Tools) -> ImageSettings:
        return self.options.settings(tools.defaults)

    def read(self, tools: Tools, page: Page) -> Answer:
        return read_picture(tools, page)


def pages(tools: Tools, words: str, codes_RC: Tensor, writable_RC: Tensor | None = None) -> tuple[Page, Page]:
    """The page with the words and the one without: text-to-image, and painting around known codes."""
    return (
        picture_page(tools.prompt("text_to_image", words), codes_RC, tools.vocab, writable_RC=writable_RC),
        picture_page(tools.prompt("text_to_image", UNCONDITION), codes_RC, tools.vocab, writable_RC=writable_RC),
    )


def text_scale(tools: Tools, options: PictureOptions) -> float:
    return tools.defaults.cfg_scale if options.cfg_scale is None else options.cfg_scale
