"""Hiding part of a page for a training step (the paper, section 3.2, eq. 1-3, with the released ratio).

In: a page and a generator. Out: the page's ids with some writable positions masked, and which ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dimoo.diffusion.schedule import Schedule, masked_share
from dimoo.page.page import Page


def corrupt(
    page: Page,
    generator: torch.Generator,
    *,
    schedule: Schedule = "cosine",
    whole_below: int = 5,
    whole_share: float = 0.0,
) -> tuple[Tensor, Tensor, float]:
    """ids (L) with the mask id in places, hidden (L) bool, and the ratio that was drawn.

    r is uniform in (0, 1), ratio = share(r), floor(ratio * n) of the n writable positions are hidden, at least one,
    uniformly without replacement. Pages of `whole_below` writable positions or fewer are hidden whole, as the
    authors do with answers of up to five ids; so is a share `whole_share` of all pages, which teaches what the first
    step of sampling needs: to go by the conditions alone.
    """
    slots = page.slots
    if not len(slots):
        raise ValueError("the page has no writable position to hide")
    ratio = 1.0
    if len(slots) > whole_below and not (whole_share and float(torch.rand((), generator=generator)) < whole_share):
        ratio = float(masked_share(torch.rand((), generator=generator, dtype=torch.float64), schedule))
    count = max(1, int(ratio * len(slots)))
    chosen = slots[torch.randperm(len(slots), generator=generator)[:count]]
    hidden = torch.zeros_like(page.writable)
    hidden[chosen] = True
    return torch.where(hidden, page.vocab.mask, page.ids), hidden, ratio
