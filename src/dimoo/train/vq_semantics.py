"""Codes that mean something: while a VQ tokenizer learns, a reader names from its codes what stands where.

In: quantised latents (B, E, 8, 8) of 128 px pictures, and what stands in the nine places. Out: a loss.

A codebook that only rebuilds pixels spends its bits on colours: round trips keep the shapes of drawings and lose what
tells their styles apart. The reader's cross-entropy goes straight through the quantiser into the encoder, so identity
is written into the codes, and the decoder can draw from it. The reader is thrown away after training; it is not the
judge, which sees pixels only.

Shape legend: B pictures, S = 9 places, E size of a code, W width of the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimoo.data.stickers.catalogue import Catalogue
from dimoo.data.stickers.pictures import draw
from dimoo.data.stickers.scenes import PLACES, generator, sample_scene
from dimoo.data.stickers.stream import picture
from dimoo.eval.recogniser import SIZES, Logits
from dimoo.train.recogniser import label

UNKNOWN = -1
Labelled = tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int64]]]
LabelledSource = Callable[[int], Labelled]
# first row or column, and extent, of the codes under a sticker of 48 px in each third of the lattice
_SPANS = ((0, 3), (2, 4), (5, 3))


class PlaceReader(nn.Module):
    """Quantised latents (B, E, 8, 8) to `Logits` of the nine places."""

    def __init__(self, *, code_size: int, concepts: int, styles: int, width: int = 128) -> None:
        super().__init__()
        self.first = nn.Conv2d(code_size, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.window = nn.Linear(9 * width, 2 * width)
        self.place_SW = nn.Parameter(torch.zeros(len(PLACES), 2 * width))
        self.parts = (len(SIZES), concepts, styles)
        self.head = nn.Linear(2 * width, sum(self.parts))

    def forward(self, latents_BE88: Tensor) -> Logits:
        # unit vectors have elements of about 1 / sqrt(E); the first layer expects them of about one
        x = F.silu(self.first(latents_BE88 * latents_BE88.shape[1] ** 0.5))
        x = x + F.silu(self.second(x))
        windows = [
            F.adaptive_avg_pool2d(x[:, :, top : top + high, left : left + wide], 3).flatten(1)
            for top, high in _SPANS
            for left, wide in _SPANS
        ]
        scores = self.head(F.silu(self.window(torch.stack(windows, dim=1)) + self.place_SW)).float()
        sizes, concepts, styles = scores.split(self.parts, dim=-1)
        return Logits(sizes=sizes, concepts=concepts, styles=styles)


def labelled_picture(
    seed: int, *, catalogue: Catalogue, concepts: Sequence[str], styles: Sequence[str], plain_share: float = 0.25
) -> Labelled:
    """A training scene with its labels (S, 3); or, in `plain_share` of cases, any picture with unknown labels."""
    rng = generator(seed)
    if rng.random() < plain_share:
        return picture(rng, catalogue=catalogue), np.full((len(PLACES), 3), UNKNOWN)
    scene = sample_scene(rng, layered=bool(rng.random() < 0.05), catalogue=catalogue)
    return draw(scene, catalogue), label(scene, concepts=concepts, styles=styles)
