"""The unmasking of a picture as a filmstrip and an animation, and cheap previews of unfinished pictures.

In: the steps of a run. Out: a PNG that shows chosen steps side by side, an animated WebP of all of them, or one
picture of the codes so far. What is masked is hatched grey.

Committed cells are shown by the finished picture's own pixels: a fixed cell never changes. The current guess, and
previews while a run goes on, come from a table of one colour a code (`CodeColours`), fitted once and quick to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dimoo.metadata import replacing
from dimoo.sampling.image import Step
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.tokenizers.resize import Pixels, to_pixels

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeColours:
    """A colour for each code: `table` (K, 3) uint8."""

    table: Pixels

    @classmethod
    def fit(cls, tokenizer: ImageTokenizer, *, cells: int = 24) -> CodeColours:
        """Least squares from the codebook's vectors to the mean colour of their cells, on a few random grids.

        A code's colour in a picture depends on its neighbours; drawing each grid in flat patches of one code keeps
        that small. Costs the decoding of two pictures of cells x cells codes.
        """
        generator = torch.Generator().manual_seed(0)
        vectors = tokenizer.vq.quantize.embedding.weight.detach().float().cpu()
        rows, means = [], []
        for _ in range(2):
            patches = torch.randint(tokenizer.codes, (cells // 2, cells // 2), generator=generator)
            grid = patches.repeat_interleave(2, 0).repeat_interleave(2, 1)
            pixels = torch.from_numpy(tokenizer.decode(grid)).float()
            factor = tokenizer.factor
            mean = pixels.unflatten(0, (cells, factor)).unflatten(2, (cells, factor)).mean(dim=(1, 3))
            rows.append(vectors[grid.flatten()])
            means.append(mean.flatten(0, 1))
        x, y = torch.cat(rows), torch.cat(means)
        ridge = 1e-2 * torch.eye(x.shape[1] + 1)
        x1 = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        weights = torch.linalg.solve(x1.T @ x1 + ridge * len(x), x1.T @ y)
        colours = torch.cat([vectors, torch.ones(len(vectors), 1)], dim=1) @ weights
        return cls(table=colours.round().clamp(0, 255).to(torch.uint8).numpy())

    def paint(self, codes_RC: Tensor, factor: int) -> Pixels:
        """Pixels (H, W, 3) of codes, one colour a cell; masked cells (-1) hatched grey."""
        codes = codes_RC.cpu().numpy()
        cells: Pixels = self.table[np.maximum(codes, 0)]
        return hatch(_enlarge(cells, factor), _enlarge(codes < 0, factor))


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One step: what is fixed, and the guess, as pixels (H, W, 3)."""

    fixed: Pixels
    guess: Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """What a film needs of one step of one picture: codes (R, C), -1 where masked, and the guess of every code."""

    codes: Tensor
    guess: Tensor

    @classmethod
    def of(cls, step: Step, position: int) -> Moment:
        page = step.pages[position]
        guess = page.ids.index_copy(0, page.slots, step.guess[position])
        return cls(codes=step.page(position).output_codes(), guess=page.replace(guess).output_codes())


def frames(moments: Sequence[Moment], picture: Image.Image, colours: CodeColours) -> list[Frame]:
    """The film of a finished picture: one frame a step."""
    final = to_pixels(picture)
    film = []
    for moment in moments:
        factor = final.shape[0] // moment.codes.shape[0]
        masked = _enlarge((moment.codes < 0).numpy(), factor)
        guess = np.where(masked[..., None], colours.paint(moment.guess, factor), final)
        film.append(Frame(fixed=hatch(final, masked), guess=guess))
    return film


def hatch(pixels: Pixels, masked: Mask) -> Pixels:
    """Masked pixels replaced by light grey with diagonal lines."""
    height, width = masked.shape
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % 8 < 2
    grey = np.where(diagonal, 190, 215).astype(np.uint8)[..., None]
    out: Pixels = np.where(masked[..., None], grey, pixels).astype(np.uint8)
    return out


def save_strip(film: Sequence[Frame], path: Path, *, columns: int = 8, gap: int = 4) -> None:
    """A PNG of at most `columns` steps from first to last: above what is fixed, below the guess."""
    chosen = [film[i] for i in sorted({round(x) for x in np.linspace(0, len(film) - 1, columns)})]
    height, width = chosen[0].fixed.shape[:2]
    sheet = np.full((2 * height + 3 * gap, len(chosen) * (width + gap) + gap, 3), 255, np.uint8)
    for column, frame in enumerate(chosen):
        left = gap + column * (width + gap)
        sheet[gap : gap + height, left : left + width] = frame.fixed
        sheet[2 * gap + height : 2 * gap + 2 * height, left : left + width] = frame.guess
    with replacing(path) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")


def save_animation(film: Sequence[Frame], path: Path, *, seconds: float = 3.0, hold: float = 1.5) -> None:
    """An animated WebP of the fixed cells over all steps, the last frame held."""
    pictures = [Image.fromarray(frame.fixed) for frame in film]
    each = max(40, round(1000 * seconds / len(pictures)))
    durations = [*[each] * (len(pictures) - 1), each + round(1000 * hold)]
    with replacing(path) as partial:
        pictures[0].save(
            partial,
            format="WEBP",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            quality=90,
            method=2,
        )


def _enlarge(values: NDArray, factor: int) -> NDArray:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)
