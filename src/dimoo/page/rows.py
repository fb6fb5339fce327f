"""Grids of image codes as ids: one newline after every row, the last included, tags around the whole.

In: codes (R, C) in 0..K-1. Out: 1-D int64 ids, and back. Masked cells carry the mask id instead of a code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dimoo.vocab import Vocab


def grid_to_rows(codes_RC: Tensor, vocab: Vocab) -> Tensor:
    """Codes (R, C), -1 where masked, to ids (R * (C + 1)) with a newline id after every row."""
    if codes_RC.ndim != 2:
        raise ValueError(f"a grid of codes has two dimensions, got shape {tuple(codes_RC.shape)}")
    if codes_RC.numel() and (int(codes_RC.max()) >= vocab.codes or int(codes_RC.min()) < -1):
        low, high = int(codes_RC.min()), int(codes_RC.max())
        raise ValueError(f"image codes {low}..{high} must lie in 0..{vocab.codes - 1}, or be -1 for a masked cell")
    codes_RC = codes_RC.to(torch.int64)
    ids_RC = torch.where(codes_RC < 0, vocab.mask, codes_RC + vocab.image_offset)
    newlines_R1 = torch.full((codes_RC.shape[0], 1), vocab.newline, dtype=torch.int64)
    return torch.cat([ids_RC, newlines_R1], dim=1).flatten()


def rows_to_grid(ids: Tensor, rows: int, columns: int, vocab: Vocab) -> Tensor:
    """The inverse of `grid_to_rows`: ids (R * (C + 1)) to codes (R, C), -1 where masked."""
    if ids.numel() != rows * (columns + 1):
        raise ValueError(f"{ids.numel()} ids are not {rows} rows of {columns} codes and a newline")
    lines = ids.reshape(rows, columns + 1)
    if not bool((lines[:, -1] == vocab.newline).all()):
        raise ValueError("a row of image codes does not end with the newline id")
    codes_RC = lines[:, :-1] - vocab.image_offset
    masked = lines[:, :-1] == vocab.mask
    if bool(((codes_RC < 0) & ~masked).any()) or bool((codes_RC >= vocab.codes).any()):
        raise ValueError("a cell of the image holds an id that is no image code")
    return torch.where(masked, -1, codes_RC)


def cells(rows: int, columns: int) -> Tensor:
    """Offsets of the cells within the rows of a grid, in raster order: newlines left out."""
    return (torch.arange(rows)[:, None] * (columns + 1) + torch.arange(columns)[None, :]).flatten()


def image_ids(codes_RC: Tensor, vocab: Vocab) -> Tensor:
    """An input image: `<IMAGE>` rows `</IMAGE>`."""
    edge = torch.tensor([vocab.boi, vocab.eoi])
    return torch.cat([edge[:1], grid_to_rows(codes_RC, vocab), edge[1:]])
