"""In which order cells are revealed when confidence has no say: the Halton order (arXiv 2503.17076).

A low-discrepancy sequence spreads the cells of every step over the whole picture, so that cells fixed together are far
apart and depend little on each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dimoo.page.page import Page


def halton_rank(rows: int, columns: int) -> Tensor:
    """When each cell (rows, columns) comes: int64 ranks 0 .. rows * columns - 1.

    Points of the two-dimensional Halton sequence (bases 2 and 3) on a square that holds the grid; a cell's rank is the
    order of its first point, points outside the grid are passed over.
    """
    side = max(rows, columns)
    rank_RC = torch.full((rows, columns), -1)
    found, count = 0, side * side
    while found < rows * columns:
        count *= 2
        down = (_van_der_corput(count, 2) * side).long().tolist()
        across = (_van_der_corput(count, 3) * side).long().tolist()
        rank_RC.fill_(-1)
        found = 0
        for row, column in zip(down, across, strict=True):
            if row < rows and column < columns and rank_RC[row, column] < 0:
                rank_RC[row, column] = found
                found += 1
    return rank_RC


def halton_scores(page: Page, generator: torch.Generator) -> Tensor:
    """A score (N, float32) for each writable position of a picture: the higher, the earlier; the sequence starts at a
    place drawn by lot."""
    span = page.span("output")
    assert span.grid is not None, "an output span has a grid"
    rows, columns = span.grid
    offset = page.slots - span.start
    rank_N = halton_rank(rows, columns)[offset // (columns + 1), offset % (columns + 1)]
    begin = int(torch.randint(rows * columns, (), generator=generator))
    return -((rank_N - begin) % (rows * columns)).float()


def _van_der_corput(count: int, base: int) -> Tensor:
    """The first `count` numbers of the radical-inverse sequence in a base, float64 in [0, 1)."""
    index = torch.arange(count)
    values = torch.zeros(count, dtype=torch.float64)
    for digit in range(1, math.ceil(math.log(max(count, 2), base)) + 1):
        values += (index % base).double() / base**digit
        index = index // base
    return values
