"""Picture and words in, picture out: edits, control, dense prediction, subjects, styles, views.

Every edit type is a row of one table: its system prompt, its fixed words if it has any, how many pictures it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from dimoo.page.page import Page, picture_page
from dimoo.page.templates import DENSE_WORDS, STYLE_WORDS, UNCONDITION, VIEW_WORDS
from dimoo.sampling.guidance import Guided
from dimoo.sampling.settings import ImageSettings
from dimoo.tasks.base import (
    Answer,
    Defaults,
    Picture,
    PictureOptions,
    TextOptions,
    Tools,
    check_prompt,
    grids,
    read_picture,
)
from dimoo.tasks.understand import Understand
from dimoo.tokenizers.resize import check_size

_BRIEFLY = TextOptions(answer_length=32, block_length=32, steps=32, threshold=0.9, preset="balanced")
NOTHING = "nothing"  # the answer to a question asked first that adds nothing to the instruction


@dataclass(frozen=True)
class EditType:
    """The system prompt's name, the words if they are fixed, the number of input pictures."""

    system: str
    words: str | None = None
    pictures: int = 1


EDIT_TYPES = {
    "edit": EditType("edit"),
    "edit_add": EditType("edit"),
    "edit_remove": EditType("edit"),
    "edit_replace": EditType("edit"),
    "edit_background": EditType("edit"),
    "edit_text_transfer": EditType("edit"),
    "canny_control": EditType("control"),
    "hed_control": EditType("control"),
    "depth_control": EditType("control"),
    "openpose_control": EditType("control"),
    "canny_pred": EditType("dense", DENSE_WORDS.format(map="canny edge map")),
    "hed_pred": EditType("dense", DENSE_WORDS.format(map="hed edge map")),
    "depth_pred": EditType("dense", DENSE_WORDS.format(map="depth map")),
    "openpose_pred": EditType("dense", DENSE_WORDS.format(map="pose estimation map")),
    "subject_driven": EditType("subject"),
    "image_ref_transfer": EditType("style", STYLE_WORDS, pictures=2),
    "multi_view_back": EditType("multi_view", VIEW_WORDS.format(view="back")),
    "multi_view_left": EditType("multi_view", VIEW_WORDS.format(view="left")),
    "multi_view_right": EditType("multi_view", VIEW_WORDS.format(view="right")),
    "multi_view_top": EditType("multi_view", VIEW_WORDS.format(view="top")),
    "multi_view_bottom": EditType("multi_view", VIEW_WORDS.format(view="bottom")),
}


def edit_type(name: str) -> EditType:
    if name not in EDIT_TYPES:
        raise ValueError(f"unknown edit type {name!r}; known are {', '.join(EDIT_TYPES)}")
    return EDIT_TYPES[name]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """`picture` is edited, controlled by, or predicted from; `reference` is the style picture where the type takes
    one. Height and width None keep the input's size (its nearest bucket).

    `ask_first` is a question about the picture that the model answers before it edits by words; `{prompt}` in it stands
    for the instruction, and the answer follows the instruction after a comma, unless it is "nothing". None asks what
    the checkpoint recommends for the type (its `edit_questions`), "" nothing."""

    picture: Picture
    prompt: str = ""
    type: str = "edit"
    reference: Picture | None = None
    height: int | None = None
    width: int | None = None
    ask_first: str | None = None
    seed: int = 0
    options: PictureOptions = field(default_factory=PictureOptions)

    def asked(self, defaults: Defaults) -> str:
        """The question with nothing left to the checkpoint; "" for none."""
        if self.ask_first is None:
            return defaults.edit_questions.get(self.type, "")
        return self.ask_first

    def question(self, defaults: Defaults) -> Understand | None:
        """What is asked before the edit; None for nothing. ValueError for a question to a type that takes none, or
        about no instruction."""
        words = self.asked(defaults)
        if not words:
            return None
        if edit_type(self.type).system != "edit":
            known = [name for name, row in EDIT_TYPES.items() if row.system == "edit"]
            raise ValueError(f"{self.type} asks nothing first; {', '.join(known)} do")
        check_prompt(self.prompt, f"instruction of {self.type}")
        return Understand(question=words.replace("{prompt}", self.prompt), pictures=(self.picture,), options=_BRIEFLY)

    def told(self, answer: str) -> Edit:
        """The same edit with the answer in its instruction, and nothing left to ask."""
        words = "" if answer in ("", NOTHING) else f", {answer}"
        return replace(self, prompt=self.prompt + words, ask_first="")

    def guided(self, tools: Tools) -> Guided:
        row = edit_type(self.type)
        if row.words is None:
            check_prompt(self.prompt, f"instruction of {self.type}")
        if row.pictures == 2 and self.reference is None:
            raise ValueError(f"{self.type} needs a reference picture beside the content picture")
        if row.pictures == 1 and self.reference is not None:
            two = [name for name, other in EDIT_TYPES.items() if other.pictures == 2]
            raise ValueError(f"{self.type} takes no reference picture; {', '.join(two)} does")
        pictures = (self.picture,) if self.reference is None else (self.picture, self.reference)
        images = grids(tools, pictures, tools.defaults.edit_area)
        factor = tools.image.factor
        height = images[0].shape[0] * factor if self.height is None else self.height
        width = images[0].shape[1] * factor if self.width is None else self.width
        check_size(height, width, factor)
        page, no_text, no_image, _ = pages(tools, row, self.prompt, images, tools.blank(height, width))
        text = tools.defaults.edit_cfg_scale if self.options.cfg_scale is None else self.options.cfg_scale
        image = tools.defaults.edit_cfg_img if self.options.cfg_img is None else self.options.cfg_img
        return Guided(page, ((no_text, text), (no_image, image)))

    def settings(self, tools: Tools) -> ImageSettings:
        return self.options.settings(tools.defaults, edit=True)

    def read(self, tools: Tools, page: Page) -> Answer:
        return read_picture(tools, page)


def pages(
    tools: Tools, row: EditType, words: str, images: tuple[Tensor, ...], codes_RC: Tensor
) -> tuple[Page, Page, Page, Page]:
    """The page, the page without words, without pictures, and without both."""
    prompt = tools.prompt(row.system, words if row.words is None else row.words)
    empty = tools.prompt(row.system, UNCONDITION)
    return (
        picture_page(prompt, codes_RC, tools.vocab, images=images),
        picture_page(empty, codes_RC, tools.vocab, images=images),
        picture_page(prompt, codes_RC, tools.vocab),
        picture_page(empty, codes_RC, tools.vocab),
    )
