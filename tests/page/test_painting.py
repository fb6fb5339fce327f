"""Painted masks: rectangles, growth, soft edges, cells; and that nothing under a mask leaks out of it."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import generator
from hypothesis import given
from hypothesis import strategies as st

from dimoo.page.painting import centred_rectangle, dilate, fill_smoothly, mask_cells, rectangle, soften

sides = st.integers(1, 24)


@given(sides, sides, st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_the_authors_rectangle(height: int, width: int, tall: float, wide: float) -> None:
    rows, columns = round(height * tall), round(width * wide)
    if rows < 1 or columns < 1:
        with pytest.raises(ValueError, match="does not lie within"):
            centred_rectangle(height, width, tall, wide)
        return
    top, left = (height - rows) // 2, (width - columns) // 2
    expected = torch.zeros(height, width, dtype=torch.bool)
    expected[top : top + rows, left : left + columns] = True
    assert torch.equal(centred_rectangle(height, width, tall, wide), expected)


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.01])
def test_wrong_ratios(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"height_ratio must lie in \(0, 1\]"):
        centred_rectangle(8, 8, ratio, 0.5)


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 0, 9, 2), (0, 7, 2, 2), (0, 0, 0, 2), (8, 0, 1, 1)])
def test_wrong_boxes(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"the rectangle .* does not lie within 8 x 8 pixels"):
        rectangle(8, 8, box)


@given(sides, sides, st.integers(0, 5), st.integers(0, 99))
def test_dilation_reaches_so_many_pixels(height: int, width: int, pixels: int, seed: int) -> None:
    # Broken to try it: a kernel of 2 * pixels - 1.
    mask = torch.rand(height, width, generator=generator(seed)) < 0.1
    grown = dilate(mask, pixels)
    where = mask.nonzero()
    for y, x in torch.cartesian_prod(torch.arange(height), torch.arange(width)).tolist():
        near = len(where) > 0 and int((where - torch.tensor([y, x])).abs().amax(1).min()) <= pixels
        assert bool(grown[y, x]) == near


def test_dilation_is_not_negative() -> None:
    with pytest.raises(ValueError, match="dilation must be 0 or more pixels, got -1"):
        dilate(torch.ones(2, 2, dtype=torch.bool), -1)


@given(st.integers(0, 4), st.integers(0, 99))
def test_soft_edges_lie_outside(pixels: int, seed: int) -> None:
    mask = torch.rand(12, 10, generator=generator(seed)) < 0.1
    weight = soften(mask, pixels)
    assert bool((weight[mask] == 1).all()) and bool((weight[~dilate(mask, pixels)] == 0).all())
    edge = weight[dilate(mask, pixels) & ~mask]
    assert bool(((edge > 0) & (edge < 1)).all())


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99), st.sampled_from([0.0, 0.5, 0.75]))
def test_cells(rows: int, columns: int, seed: int, cover: float) -> None:
    # Broken to try it: `>=` for `>`: half a cell is not masked in the authors' code.
    mask = torch.rand(rows * 4, columns * 4, generator=generator(seed)) < 0.5
    cells = mask_cells(mask, 4, cover=cover)
    for row in range(rows):
        for column in range(columns):
            count = int(mask[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4].sum())
            assert bool(cells[row, column]) == (count > 16 * cover)


@given(sides, sides, st.integers(0, 99))
def test_what_is_masked_does_not_show_through(height: int, width: int, seed: int) -> None:
    # Broken to try it: averages that count masked pixels.
    mask = torch.rand(height, width, generator=generator(seed)) < 0.5
    pixels = torch.rand(height, width, 3, generator=generator(seed + 1)) * 255
    other = torch.where(mask[..., None], 255 - pixels, pixels)
    filled = fill_smoothly(pixels, mask)
    torch.testing.assert_close(fill_smoothly(other, mask), filled)
    torch.testing.assert_close(filled[~mask], pixels[~mask])
    if bool((~mask).any()):
        known = pixels[~mask]
        assert bool((filled >= known.amin(0) - 1e-2).all()) and bool((filled <= known.amax(0) + 1e-2).all())
