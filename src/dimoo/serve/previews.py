"""Cheap pictures of an unfinished run: codes to colours by a table, and when each cell was fixed.

In: a step of the worker. Out: small RGB pictures, in a millisecond and without the VQ decoder.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dimoo.films import CodeColours
from dimoo.page.page import Page
from dimoo.page.rows import cells, rows_to_grid
from dimoo.serve.worker import Finished, Stepped
from dimoo.tokenizers.image import ImageTokenizer

LARGE = 128  # pixels of the longer side of a preview, about: the browser enlarges it
COLD, HOT = (28, 40, 92), (255, 214, 90)  # fixed first, fixed last
OPEN = (205, 205, 205)  # not yet fixed


class Previews:
    """Previews for one checkpoint; made once, then only read."""

    def __init__(self, image: ImageTokenizer) -> None:
        self.factor = image.factor
        self.table = CodeColours.fit(image).table

    def guess(self, step: Stepped) -> Image.Image:
        """The picture as the model would end it now: what is not yet fixed is paler."""
        codes_RC = output_codes(step.page, step.guess).numpy()
        colours = self.table[codes_RC]
        still_RC = output_codes(step.page, step.ids).numpy() < 0
        colours = np.where(still_RC[..., None], 0.55 * colours + 0.45 * np.array(OPEN), colours)
        height, width = colours.shape[:2]
        scale = max(1, LARGE // max(height, width))
        small = Image.fromarray(colours.astype(np.uint8))
        return small.resize((width * scale, height * scale), Image.Resampling.BICUBIC)

    def plain(self, step: Stepped) -> Image.Image:
        """The guess alone, at the size of the finished picture."""
        colours = self.table[output_codes(step.page, step.guess).numpy()].astype(np.uint8)
        height, width = (side * self.factor for side in colours.shape[:2])
        return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)

    def heat(self, step: Stepped | Finished, steps: int) -> Image.Image:
        """When each cell was fixed, a pixel a cell: dark first, bright last; grey while open; untouched cells black."""
        span = step.page.span("output")
        assert span.grid is not None, "an output span has a grid"
        when = torch.full((len(step.page),), -2)
        when[step.page.slots] = step.fixed
        rows, columns = span.grid
        when_RC = when[span.start + cells(rows, columns)].reshape(rows, columns).numpy()
        return Image.fromarray(_heat_colours(when_RC, steps))


def output_codes(page: Page, ids_N: Tensor) -> Tensor:
    """Codes (R, C) of the page's picture with these ids at its writable positions, -1 where masked."""
    span = page.span("output")
    assert span.grid is not None, "an output span has a grid"
    ids = page.ids.index_copy(0, page.slots, ids_N)
    return rows_to_grid(ids[span.start : span.stop], *span.grid, page.vocab)


def _heat_colours(when_RC: NDArray[np.int64], steps: int) -> NDArray[np.uint8]:
    share = (when_RC.clip(0) / max(1, steps - 1))[..., None]
    colours = (1 - share) * np.array(COLD) + share * np.array(HOT)
    colours = np.where((when_RC == -1)[..., None], OPEN, colours)
    return np.where((when_RC == -2)[..., None], 0, colours).astype(np.uint8)
