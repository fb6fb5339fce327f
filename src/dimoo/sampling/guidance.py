"""Classifier-free guidance: a page, the pages it is contrasted with, and one function that combines their logits.

With one contrast (1 + s) c - s u; with more c + sum of s_i (c - u_i): equal in exact arithmetic, written the two ways
in which the authors write them so that bfloat16 rounds alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo.page.page import Page


@dataclass(frozen=True, eq=False)
class Guided:
    """A page to fill, and (page, scale) pairs that it is contrasted with; a scale of 0 costs nothing."""

    page: Page
    contrasts: tuple[tuple[Page, float], ...] = ()

    def __post_init__(self) -> None:
        slots = int(self.page.writable.sum())
        if slots == 0:
            raise ValueError("the page has nothing to fill: no position is writable")
        for other, scale in self.contrasts:
            if not math.isfinite(scale):
                raise ValueError(f"a guidance scale must be a finite number, got {scale}")
            assert int(other.writable.sum()) == slots, "all branches have the same writable positions"

    @property
    def active(self) -> tuple[tuple[Page, float], ...]:
        return tuple((page, scale) for page, scale in self.contrasts if scale != 0)

    @property
    def branches(self) -> tuple[Page, ...]:
        """The pages to run, the conditional one first."""
        return (self.page, *(page for page, _ in self.active))

    @property
    def scales(self) -> tuple[float, ...]:
        return tuple(scale for _, scale in self.active)


def combine(logits: Sequence[Tensor], scales: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
    """Guided logits from those of the branches (conditional first), every operation in `dtype`."""
    conditional, *others = (branch.to(dtype) for branch in logits)
    assert len(others) == len(scales), "one scale a contrast"
    if len(others) == 1:
        return (1 + scales[0]) * conditional - scales[0] * others[0]
    guided = conditional
    for other, scale in zip(others, scales, strict=True):
        guided = guided + scale * (conditional - other)
    return guided
