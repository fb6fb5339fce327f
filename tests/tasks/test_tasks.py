"""What tasks make of a request: pages, sizes, refusals, and how answers are read and pasted back.

Broken on purpose to see these fail: polarity of a mask; a paste that blends outside; an outpainted canvas of the old
size; pixels under the mask encoded; a reference picture ignored.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_fixtures import CODES, VOCAB, Blocks, Recorder, grid, photo, stub_tools
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dimoo.page.page import Page
from dimoo.sampling.policies import MLCache, NoCache
from dimoo.tasks.base import Defaults, PictureOptions, TextOptions
from dimoo.tasks.controls import canny
from dimoo.tasks.edit import EDIT_TYPES, Edit
from dimoo.tasks.paint import Inpaint, Outpaint, read_mask
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tasks.understand import Message, Understand, question_turns

TOOLS = stub_tools()


def filled(page: Page, seed: int = 0) -> Page:
    """The page with random codes where it was masked."""
    codes = torch.randint(0, CODES, (len(page),), generator=torch.Generator().manual_seed(seed)) + VOCAB.image_offset
    return page.replace(torch.where(page.ids == VOCAB.mask, codes, page.ids))


def image(picture: Image.Image | None) -> np.ndarray:
    assert picture is not None
    return np.asarray(picture).astype(int)


# Text to image and edits.


def test_sizes_of_a_picture() -> None:
    assert TextToImage(prompt="x").guided(TOOLS).page.span("output").grid == (3, 4), "the checkpoint's own size"
    assert TextToImage(prompt="x", height=16, width=80).guided(TOOLS).page.span("output").grid == (1, 5)
    for height, width in ((20, 16), (16, 0), (16, -16)):
        with pytest.raises(ValueError, match="is not a multiple of 16"):
            TextToImage(prompt="x", height=height, width=width).guided(TOOLS)


@pytest.mark.parametrize("words", ["", "  \n"])
def test_empty_prompts(words: str) -> None:
    square = photo(32, 32)
    for request in (
        TextToImage(prompt=words),
        Edit(picture=square, prompt=words),
        Inpaint(picture=square, prompt=words, ratios=(0.5, 0.5)),
        Outpaint(picture=square, prompt=words, expand=(16, 0, 0, 0)),
        Understand(question=words),
    ):
        with pytest.raises(ValueError, match="is empty"):
            request.guided(TOOLS)


def test_guidance_of_edits() -> None:
    guided = Edit(picture=photo(64, 64), prompt="x", options=PictureOptions(cfg_scale=1.5)).guided(TOOLS)
    assert guided.scales == (1.5, 4.0)
    no_text, no_image = (page for page, _ in guided.contrasts)
    assert VOCAB.uncondition in no_text.ids and VOCAB.uncondition not in no_image.ids
    assert [span.kind for span in no_image.spans] == ["prompt", "output"]
    assert [span.kind for span in no_text.spans] == [span.kind for span in guided.page.spans]


def test_an_edit_keeps_the_inputs_size_unless_told_otherwise() -> None:
    wide = Edit(picture=photo(64, 128), prompt="x")
    assert wide.guided(TOOLS).page.span("image").grid == wide.guided(TOOLS).page.span("output").grid
    other = dataclasses.replace(wide, height=16, width=32).guided(TOOLS).page
    assert other.span("output").grid == (1, 2) and other.span("image").grid != (1, 2)
    with pytest.raises(ValueError, match="height 17 is not a multiple"):
        dataclasses.replace(wide, height=17).guided(TOOLS)


@pytest.mark.parametrize("name", [name for name, row in EDIT_TYPES.items() if row.pictures == 1])
def test_types_that_take_one_picture(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} takes no reference picture; image_ref_transfer does"):
        Edit(picture=photo(32, 32), prompt="x", type=name, reference=photo(32, 32)).guided(TOOLS)


def test_types_that_need_something() -> None:
    with pytest.raises(ValueError, match="image_ref_transfer needs a reference picture"):
        Edit(picture=photo(32, 32), type="image_ref_transfer").guided(TOOLS)
    with pytest.raises(ValueError, match=r"unknown edit type 'paint'; known are edit, edit_add"):
        Edit(picture=photo(32, 32), prompt="x", type="paint").guided(TOOLS)
    assert Edit(picture=photo(32, 32), type="depth_pred").guided(TOOLS)


def test_pictures_come_as_people_have_them() -> None:
    """A PIL picture as `Image.open` gives it: turned by its EXIF, with a palette, 16 bits deep, transparent."""
    # This failed: only files opened by the command line were put right.
    turned = Image.fromarray(np.asarray(photo(32, 64, 3)))
    upright = turned.transpose(Image.Transpose.ROTATE_270)
    turned.getexif()[0x0112] = 6  # "turn me a quarter to the right"
    codes = TOOLS.codes(upright, 64)
    assert torch.equal(TOOLS.codes(turned, 64), codes)
    assert codes.shape[0] > codes.shape[1]
    deep = Image.fromarray(np.full((64, 64), 40_000, dtype=np.uint16))
    assert set(TOOLS.codes(deep, 64).flatten().tolist()) == {int(round(40_000 / 257) / 256 * CODES)}
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert set(TOOLS.codes(clear, 64).flatten().tolist()) == {CODES - 1}
    painted = Inpaint(picture=turned, prompt="x", box=(0, 0, 16, 16)).guided(TOOLS).page
    assert painted.span("output").grid == (4, 2)


# Painting.


@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(0, 99), st.integers(0, 3), st.integers(0, 5), st.integers(0, 15)
)
def test_outside_the_mask_the_pixels_are_the_inputs(
    rows: int, columns: int, seed: int, softness: int, dilation: int, extra: int
) -> None:
    # Broken to try it: soften inside paste_back over the decoded picture everywhere.
    height, width = rows * 16 + extra % 5, columns * 16 + extra % 3
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    drawn = rng.random((height, width)) < 0.05
    drawn[0, 0] = True
    request = Inpaint(picture=picture, prompt="x", mask=Image.fromarray(drawn), softness=softness, dilation=dilation)
    page = filled(request.guided(TOOLS).page, seed)
    answer = image(request.read(TOOLS, page).picture)
    before, decoded = image(picture)[: rows * 16, : columns * 16], Blocks().decode(page.output_codes()).astype(int)
    y, x = np.nonzero(drawn)
    down = np.abs(np.arange(rows * 16)[:, None, None] - y)
    across = np.abs(np.arange(columns * 16)[None, :, None] - x)
    distance = np.maximum(down, across).min(-1)  # to the nearest painted pixel
    assert answer.shape == before.shape
    assert (answer[distance > dilation + softness] == before[distance > dilation + softness]).all()
    assert (answer[distance <= dilation] == decoded[distance <= dilation]).all()
    plain = dataclasses.replace(request, paste=False)
    assert (image(plain.read(TOOLS, page).picture) == decoded).all()


def test_touched_cells_are_drawn_and_no_others() -> None:
    # Broken to try it: cover=0.5, which leaves a cell that is a third masked as it was.
    request = Inpaint(picture=photo(48, 48, 1), prompt="x", box=(15, 20, 3, 5))
    page = request.guided(TOOLS).page
    assert (page.output_codes() == -1).tolist() == [[False, True, False], [False, True, False], [False, False, False]]
    known = page.output_codes()
    assert torch.equal(known[known >= 0], TOOLS.image.encode(np.asarray(photo(48, 48, 1)))[known >= 0])


def test_what_lies_under_the_mask_is_not_read() -> None:
    # Broken to try it: the picture encoded as it is.
    read: list[np.ndarray] = []

    class Watched(Blocks):
        """Real encoders see past a cell's edge: what they are given must not hold what is masked."""

        def encode(self, pixels: np.ndarray) -> torch.Tensor:
            read.append(pixels)
            return super().encode(pixels)

    tools = dataclasses.replace(TOOLS, image=Watched())
    pixels = np.asarray(photo(48, 48, 1)).copy()
    other = pixels.copy()
    other[5:35, 5:35] = 255 - other[5:35, 5:35]
    for one in (pixels, other):
        Inpaint(picture=Image.fromarray(one), prompt="x", box=(5, 5, 30, 30)).guided(tools)
    assert np.array_equal(read[0], read[1])
    outside = np.ones((48, 48), dtype=bool)
    outside[5:35, 5:35] = False
    assert np.array_equal(read[0][outside], pixels[outside])


def test_masks_of_all_kinds_mean_the_same() -> None:
    """White is drawn; of a picture with transparency the transparent part."""
    drawn = np.zeros((32, 48), dtype=bool)
    drawn[4:20, 10:30] = True
    white = (drawn * 255).astype(np.uint8)
    clear = np.dstack([white, white, white, 255 - white])
    masks = [
        Image.fromarray(drawn),
        Image.fromarray(white),
        Image.fromarray(white).convert("RGB"),
        Image.fromarray(white).convert("P"),
        Image.fromarray(white.astype(np.uint16) * 257),
        Image.fromarray(clear),
        Image.fromarray(np.dstack([white, white, white, np.full_like(white, 255)])),
        Image.merge("LA", [Image.new("L", (48, 32), 9), Image.fromarray(255 - white)]),
    ]
    for mask in masks:
        assert np.array_equal(read_mask(mask).numpy(), drawn), mask.mode
    assert np.array_equal(read_mask(Image.fromarray(np.array([[127, 128]], dtype=np.uint8))).numpy(), [[False, True]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give exactly one of mask, box, ratios; got none"),
        ({"box": (0, 0, 1, 1), "ratios": (0.5, 0.5)}, "exactly one of mask, box, ratios; got box, ratios"),
        ({"mask": Image.new("L", (32, 48))}, r"the mask is 48 x 32 pixels \(height x width\), the picture 32 x 48"),
        ({"mask": Image.new("L", (48, 32))}, "the mask is empty"),
        ({"box": (0, 40, 4, 9)}, "does not lie within 32 x 48 pixels"),
        ({"ratios": (0.0, 1.0)}, "height_ratio"),
        ({"box": (0, 0, 4, 4), "dilation": -1}, "dilation must be 0 or more"),
    ],
)
def test_wrong_masks(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inpaint(picture=photo(32, 48), prompt="x", **values).guided(TOOLS)


def test_a_picture_smaller_than_a_cell() -> None:
    with pytest.raises(ValueError, match="15 x 40 pixels is smaller than one cell of 16 x 16"):
        Inpaint(picture=photo(15, 40), prompt="x", ratios=(0.5, 0.5)).guided(TOOLS)


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any), st.integers(0, 9))
def test_outpainting_grows_the_canvas(expand: tuple[int, int, int, int], seed: int) -> None:
    # Broken to try it: (top, left, bottom, right); the border encoded as known black.
    picture = photo(32, 48, seed)
    request = Outpaint(picture=picture, prompt="x", expand=expand, softness=0)
    top, bottom, left, right = (-(-side // 16) * 16 for side in expand)
    page = request.guided(TOOLS).page
    known = page.output_codes() >= 0
    assert known.shape == ((top + 32 + bottom) // 16, (left + 48 + right) // 16)
    expected = torch.zeros_like(known)
    expected[top // 16 : top // 16 + 2, left // 16 : left // 16 + 3] = True
    assert torch.equal(known, expected) and torch.equal(page.hide().output_codes() >= 0, expected)
    answer = image(request.read(TOOLS, filled(page, seed)).picture)
    assert answer.shape == (top + 32 + bottom, left + 48 + right, 3)
    assert (answer[top : top + 32, left : left + 48] == image(picture)).all()


@pytest.mark.parametrize("expand", [(0, 0, 0, 0), (-16, 0, 16, 0)])
def test_a_canvas_that_does_not_grow(expand: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be 0 or more, and not all 0"):
        Outpaint(picture=photo(32, 32), prompt="x", expand=expand).guided(TOOLS)


# Questions.


def test_answers_are_read_up_to_their_end() -> None:
    request = Understand(question="x", options=TextOptions(answer_length=4))
    page = request.guided(TOOLS).page
    ids = page.ids.clone()
    ids[page.slots] = torch.tensor([3, 4, VOCAB.answer_end, 5])
    assert request.read(TOOLS, page.replace(ids)).text == "3 4"


def test_places_must_match_the_pictures() -> None:
    for words, pictures in (("see <image>", 2), ("none", 1), ("<image> <image>", 1)):
        request = Understand(question=words, pictures=(photo(32, 32),) * pictures, interleaved=True)
        with pytest.raises(ValueError, match=rf"places <image> for {pictures} pictures"):
            request.guided(TOOLS)
    later = Understand(
        question="and <image>?",
        pictures=(photo(32, 32),),
        interleaved=True,
        history=(Message(words="hi", answer="yes"),),
    )
    kinds = [span.kind for span in later.guided(TOOLS).page.spans]
    assert kinds == ["prompt", "prompt", "prompt", "image", "prompt", "answer"]


def test_long_words_of_any_turn_are_cut_within_the_words(caplog: pytest.LogCaptureFixture) -> None:
    # This failed for later turns, which were not limited.
    recorder = Recorder()
    tools = stub_tools(recorder, prompt_limit=40)
    long = "one two three four five six seven " * 9
    with caplog.at_level(logging.WARNING):
        page = Understand(question=long, history=(Message(words="hi", answer="yes"),)).guided(tools).page
    last = [span for span in page.spans if span.kind == "prompt"][-1]
    assert last.stop - last.start == 40 and page.ids[last.stop - 1] == recorder.encode("</user>")[0]
    assert "characters were cut" in caplog.text


def test_training_turns_are_the_inference_turns() -> None:
    """The page of a record is the page of a request (one layout for both)."""
    images = (grid(2, 2, 1),)
    turns = question_turns(TOOLS, "And now?", images, [("What is this?", "A fox.")])
    assert [list(turn.prompt) for turn in turns] == [
        TOOLS.prompt("understanding", "What is this?"),
        TOOLS.turn("And now?"),
    ]
    assert turns[0].images == images and turns[1].images == () and turns[0].answer == TOOLS.text.encode("A fox.")


# Options and defaults.


def test_what_a_request_leaves_open_is_the_checkpoints() -> None:
    settings = PictureOptions().settings(TOOLS.defaults)
    assert (settings.steps, settings.noise, settings.policy) == (4, "exact", NoCache())
    given_ = PictureOptions(steps=9, noise="reference", policy=MLCache(), top_k=3, schedule="arccos")
    settings = given_.settings(TOOLS.defaults)
    assert (settings.steps, settings.noise, settings.policy, settings.top_k, settings.schedule) == (
        9, "reference", MLCache(), 3, "arccos",
    )  # fmt: skip
    text = TextOptions().settings(Defaults())
    assert (text.steps, text.block_length) == (128, 256)
    text = TextOptions(answer_length=128).settings(Defaults())
    assert (text.steps, text.block_length) == (16, 128)


def test_a_checkpoint_can_leave_unlikely_ids_out() -> None:
    # Broken to try it: the checkpoint's value before the request's.
    careful = dataclasses.replace(TOOLS.defaults, top_p=0.8)
    assert PictureOptions().settings(careful).top_p == 0.8
    assert PictureOptions(top_p=1.0).settings(careful).top_p is None, "all of them, and no sorting"
    assert PictureOptions().settings(Defaults()).top_p is None, "the authors draw from all"


def test_the_order_s_temperature_is_the_requests() -> None:
    # Broken to try it: zero taken for nothing given.
    assert PictureOptions(choice_temperature=0.0).settings(Defaults()).choice_temperature == 0.0
    assert PictureOptions().settings(Defaults()).choice_temperature is None, "the authors have one temperature"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TextOptions(steps=0), "steps must be at least 1, got 0"),
        (TextOptions(block_length=0), "block_length must be at least 1, got 0"),
        (TextOptions(answer_length=0), "answer_length must be at least 1, got 0"),
        (PictureOptions(steps=0), "steps must be at least 1, got 0"),
    ],
)
def test_a_zero_is_no_default(options: TextOptions | PictureOptions, message: str) -> None:
    # The text ones failed: `or` took the checkpoint's number for a zero.
    with pytest.raises(ValueError, match=message):
        options.settings(TOOLS.defaults)


def test_defaults_there_and_back(tmp_path: Path) -> None:
    assert Defaults.load(tmp_path) == Defaults()
    TOOLS.defaults.save(tmp_path)
    assert Defaults.load(tmp_path) == TOOLS.defaults
    (tmp_path / "dimoo.json").write_text(json.dumps({"stepz": 3}))
    with pytest.raises(ValueError, match=r"unknown keys \['stepz'\]"):
        Defaults.load(tmp_path)
    (tmp_path / "dimoo.json").write_text("{")
    with pytest.raises(ValueError, match=r"dimoo\.json is not valid JSON"):
        Defaults.load(tmp_path)


def test_canny_maps() -> None:
    picture = Image.new("RGB", (40, 30), "black")
    picture.paste("white", (10, 10, 30, 20))
    edges = np.asarray(canny(picture))
    assert edges.shape == (30, 40, 3) and set(np.unique(edges)) == {0, 255}
    assert edges[10:20, 9:11].any() and not edges[:5].any()
