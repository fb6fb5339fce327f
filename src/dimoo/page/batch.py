"""Pages packed one after the other, without padding.

In: sequences of ids of any lengths. Out: a `Packing` (lengths and offsets, on the host) and index tensors into the
packed axis T. Attention runs within a page only, so what else is in the pack cannot change a page's numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Lengths of the packed pages; page i occupies offsets[i] .. offsets[i + 1] of the packed axis."""

    lengths: tuple[int, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        return (0, *accumulate(self.lengths))

    @property
    def total(self) -> int:
        return self.offsets[-1]

    @cached_property
    def positions(self) -> Tensor:
        """Position of every packed row within its own page, (T) int64."""
        return torch.cat([torch.arange(length) for length in self.lengths])


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a pack: `index` (M) int64, ascending, and how many of them belong to each page."""

    index: Tensor
    counts: tuple[int, ...]

    @staticmethod
    def from_mask(mask_T: Tensor, packing: Packing) -> Rows:
        """The rows where `mask_T` (T, bool, on the host) is true."""
        counts = tuple(int(part.sum()) for part in mask_T.split(list(packing.lengths)))
        return Rows(mask_T.nonzero().flatten(), counts)

    @staticmethod
    def of_pages(index_per_page: Sequence[Tensor], packing: Packing) -> Rows:
        """Rows given page by page as ascending positions within each page."""
        shifted = [index + start for index, start in zip(index_per_page, packing.offsets[:-1], strict=True)]
        return Rows(torch.cat(shifted), tuple(len(index) for index in shifted))

    def __len__(self) -> int:
        return self.index.numel()

    def to(self, device: torch.device) -> Rows:
        return Rows(self.index.to(device), self.counts)


def pack(sequences: Sequence[Tensor]) -> tuple[Tensor, Packing]:
    """Ids of all sequences one after the other (T), and where each lies."""
    return torch.cat(list(sequences)), Packing(tuple(len(sequence) for sequence in sequences))
