"""The page: its layout against plain lists, what may be written, what is refused; rows, packs and how it is shown.

Broken on purpose to see these fail: images after the closing tag; the newline of the last row left out; newlines
writable; a history's answer without its end.
"""

from __future__ import annotations

import re

import pytest
import torch
from engine_fixtures import CODES, VOCAB, blank, generator, grid, words
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dimoo.page.batch import Packing, Rows, pack
from dimoo.page.page import Page, Turn, picture_page, text_page
from dimoo.page.rows import cells, grid_to_rows, image_ids, rows_to_grid

V = VOCAB


def rows(codes: Tensor) -> list[int]:
    """Rows written down one by one."""
    out: list[int] = []
    for line in codes.tolist():
        out += [V.mask if code < 0 else V.image_offset + code for code in line] + [V.newline]
    return out


def picture(codes: Tensor) -> list[int]:
    return [V.boi, *rows(codes), V.eoi]


grids = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 999)).map(lambda size: grid(*size))
holes = st.tuples(grids, st.integers(0, 999)).map(
    lambda pair: torch.where(torch.rand(pair[0].shape, generator=generator(pair[1])) < 0.4, -1, pair[0])
)
prompts = st.lists(st.integers(0, 39), min_size=1, max_size=6)


@given(holes)
def test_rows_and_back(codes: Tensor) -> None:
    # Broken to try it: newlines between rows only.
    ids = grid_to_rows(codes, V)
    assert ids.tolist() == rows(codes)
    assert torch.equal(rows_to_grid(ids, *codes.shape, V), codes)
    assert torch.equal(ids[cells(*codes.shape)] == V.mask, (codes < 0).flatten())
    assert image_ids(codes, V).tolist() == picture(codes)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.tensor([[CODES]]), f"image codes {CODES}..{CODES} must lie in 0..{CODES - 1}"),
        (torch.tensor([[-2, 3]]), "image codes -2..3 must lie"),
        (torch.tensor([1, 2]), r"two dimensions, got shape \(2,\)"),
    ],
)
def test_no_other_codes(codes: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_to_rows(codes, V)


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        ({}, (3, 2), "6 ids are not 3 rows of 2 codes and a newline"),
        ({2: V.mask}, (2, 2), "does not end with the newline id"),
        ({0: 5}, (2, 2), "holds an id that is no image code"),
        ({0: V.newline}, (2, 2), "holds an id that is no image code"),
        ({0: V.size}, (2, 2), "holds an id that is no image code"),
    ],
)
def test_no_other_rows(change: dict[int, int], size: tuple[int, int], message: str) -> None:
    ids = grid_to_rows(grid(2, 2, 1), V)
    for position, value in change.items():
        ids[position] = value
    with pytest.raises(ValueError, match=message):
        rows_to_grid(ids, *size, V)


@given(prompts, st.lists(grids, max_size=2), holes)
def test_a_picture_page(prompt: list[int], images: list[Tensor], codes: Tensor) -> None:
    page = picture_page(prompt, codes, V, images=images)
    front = [*prompt[:-1], *(value for image in images for value in picture(image)), prompt[-1]]
    assert page.ids.tolist() == [*front, V.answer_start, V.boi, *rows(codes), V.eoi, V.answer_end]
    span = page.span("output")
    assert page.ids[span.start : span.stop].tolist() == rows(codes) and span.grid == tuple(codes.shape)
    assert torch.equal(page.output_codes(), codes)
    inside = torch.zeros(len(page), dtype=torch.bool)
    inside[span.start : span.stop] = True
    assert torch.equal(page.writable, inside & (page.ids != V.newline))
    assert bool((page.hide().output_codes() == -1).all())
    shown = [part for part in page.spans if part.kind == "image"]
    assert [part.grid for part in shown] == [tuple(image.shape) for image in images]
    for part, image in zip(shown, images, strict=True):
        assert page.ids[part.start : part.stop].tolist() == picture(image)


@given(prompts, st.lists(grids, max_size=2), st.integers(1, 9), st.booleans())
def test_a_text_page(prompt: list[int], images: list[Tensor], length: int, closed: bool) -> None:
    page = text_page(prompt, [V.mask] * length, V, images=images, closed=closed)
    front = [*prompt[:-1], *(value for image in images for value in picture(image)), prompt[-1]]
    answer = [V.answer_start] + [V.mask] * length
    assert page.ids.tolist() == front + answer + [V.answer_end] * closed
    assert page.slots.tolist() == list(range(len(front) + 1, len(front) + 1 + length))


def test_a_conversation() -> None:
    # Broken to try it: the finished answer without its closing tag.
    first, second, asked = [1, 2, 3], [4, 5], [6, 7]
    image, made = grid(1, 2, 1), grid(2, 1, 2)
    history = [Turn(prompt=first, images=[image], answer=[8, 9]), Turn(prompt=second, picture=made)]
    page = text_page(asked, [V.mask] * 2, V, images=[image], history=history)
    assert page.ids.tolist() == [
        *(1, 2, *picture(image), 3, V.answer_start, 8, 9, V.answer_end),
        *(4, 5, V.answer_start, *picture(made), V.answer_end),
        *(6, *picture(image), 7, V.answer_start, V.mask, V.mask),
    ]
    assert page.slots.tolist() == [len(page) - 2, len(page) - 1]


def test_images_may_stand_where_the_text_says() -> None:
    images = [grid(1, 1, 1), grid(1, 2, 2)]
    page = text_page([1, 2, 3], [V.mask], V, images=images, places=[0, 2])
    assert page.ids.tolist() == [*picture(images[0]), 1, 2, *picture(images[1]), 3, V.answer_start, V.mask]
    page = text_page([1, 2, 3], [V.mask], V, images=images, places=[1, 1])
    assert page.ids.tolist() == [1, *picture(images[0]), *picture(images[1]), 2, 3, V.answer_start, V.mask]


@pytest.mark.parametrize("places", [[1], [2, 1], [-1, 1], [1, 3]])
def test_other_places_are_refused(places: list[int]) -> None:
    # The last two failed: a negative place went to the front, one past the end behind the closing tag.
    with pytest.raises(ValueError, match=re.escape(f"places {places} must name")):
        text_page([1, 2, 3], [V.mask], V, images=[grid(1, 1, 1), grid(1, 1, 2)], places=places)


def test_some_cells_may_be_written() -> None:
    codes, free = grid(2, 2, 1), torch.tensor([[True, False], [False, True]])
    page = picture_page([1], codes, V, writable_RC=free)
    assert torch.equal(page.hide().output_codes(), torch.where(free, -1, codes))
    with pytest.raises(ValueError, match="a masked cell must be writable"):
        picture_page([1], blank(2, 2), V, writable_RC=free)
    with pytest.raises(ValueError, match=r"the mask has shape \(2, 2\), the picture \(2, 3\)"):
        picture_page([1], blank(2, 3), V, writable_RC=free)
    with pytest.raises(ValueError, match="at least its closing tag"):
        picture_page([], blank(2, 3), V)


def test_only_writable_positions_can_be_replaced() -> None:
    # Broken to try it: replace without the check.
    page = picture_page([1, 2], blank(1, 2), V)
    ids = page.ids.clone()
    ids[page.slots] = V.image_offset
    new = page.replace(ids)
    assert torch.equal(new.ids, ids) and new.ids is not ids and bool((page.output_codes() == -1).all())
    ids[0] = 3
    with pytest.raises(ValueError, match="only writable positions"):
        page.replace(ids)
    with pytest.raises(ValueError, match=r"the page has 9 ids, got \(2,\)"):
        page.replace(ids[:2])


def test_a_page_knows_what_it_has() -> None:
    page = text_page([1], [V.mask] * 2, V)
    with pytest.raises(ValueError, match=r"no 'output' span; it has \['prompt', 'answer'\]"):
        page.output_codes()
    with pytest.raises(AssertionError, match="one-dimensional"):
        Page(ids=torch.zeros(1, 2, dtype=torch.int64), writable=torch.zeros(1, 2, dtype=torch.bool), spans=(), vocab=V)
    with pytest.raises(AssertionError, match="writable matches"):
        Page(ids=torch.zeros(2, dtype=torch.int64), writable=torch.zeros(3, dtype=torch.bool), spans=(), vocab=V)


@given(st.lists(st.sampled_from([3, 4, V.answer_end, V.answer_pad, V.mask]), min_size=1, max_size=8))
def test_an_answer_is_cut_at_its_first_end(answer: list[int]) -> None:
    expected: list[int] = []
    for value in answer:
        if value in (V.answer_end, V.answer_pad):
            break
        expected.append(value)
    assert text_page([1], answer, V, closed=True).answer_ids() == expected


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_packs(lengths: list[int], data: st.DataObject) -> None:
    # Broken to try it: offsets one page late.
    ids, packing = pack([torch.full((length,), i) for i, length in enumerate(lengths)])
    assert packing.total == len(ids) == sum(lengths)
    for i, length in enumerate(lengths):
        inside = slice(packing.offsets[i], packing.offsets[i + 1])
        assert ids[inside].tolist() == [i] * length and packing.positions[inside].tolist() == list(range(length))
    chosen = [sorted(data.draw(st.sets(st.integers(0, length - 1)))) for length in lengths]
    rows_ = Rows.of_pages([torch.tensor(part, dtype=torch.int64) for part in chosen], packing)
    mask = torch.zeros(packing.total, dtype=torch.bool)
    mask[rows_.index] = True
    again = Rows.from_mask(mask, packing)
    assert torch.equal(again.index, rows_.index) and again.counts == rows_.counts == tuple(map(len, chosen))
    assert len(rows_) == sum(map(len, chosen)) and rows_.to(torch.device("cpu")).counts == rows_.counts
    assert [p for part, at in zip(chosen, packing.offsets, strict=False) for p in (q + at for q in part)] == list(
        rows_.index
    )
    assert isinstance(packing, Packing)


def test_show() -> None:
    codes = torch.tensor([[3, -1], [12, 7]])
    page = picture_page([*words(2, 1), 9], codes, V, images=[grid(1, 2, 1)], writable_RC=codes != 7)
    lines = page.show(colour=False).splitlines()
    image = grid(1, 2, 1).tolist()[0]
    assert lines == [
        f"prompt      0  {words(2, 1)[0]} {words(2, 1)[1]}",
        "image       2  <boi>",
        f"            3  {image[0]:>2} {image[1]:>2} ⏎",
        "            6  <eoi>",
        "prompt      7  9",
        "            8  <answer_start> <boi>",
        "output     10   3' ▢ ⏎",
        "           13  12'  7 ⏎",
        "           16  <eoi> <answer_end>",
    ]
    plain = re.sub("\x1b\\[\\d+m", "", page.show())
    assert plain.splitlines() == lines and plain != page.show()
    spoken = page.show(colour=False, text=lambda ids: "+".join(map(str, ids))).splitlines()
    assert spoken[0] == f"prompt      0  '{words(2, 1)[0]}+{words(2, 1)[1]}'"
    told = text_page([1], [3, V.answer_end, V.mask], V).show(colour=False).splitlines()
    assert told == ["prompt      0  1", "            1  <answer_start>", "answer      2  3' <answer_end>' ▢"]
