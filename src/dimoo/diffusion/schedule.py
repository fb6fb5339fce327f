"""How much is masked: the schedules shared by training (which ratio) and sampling (how many stay masked).

A schedule maps progress t in [0, 1] to the share still masked, 1 at t = 0 and 0 at t = 1, falling:

    cosine  cos(pi t / 2)          MaskGIT (arXiv 2202.04200), used by Lumina-DiMOO
    linear  1 - t
    arccos  arccos(t) / (pi / 2)   the count schedule of the Halton sampler (arXiv 2503.17076)
    circle  sqrt(1 - t^2)          a quarter circle: slower at the start than the cosine, for few steps (docs/log.md)
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Schedule = Literal["cosine", "linear", "arccos", "circle"]


def masked_share(progress: Tensor, schedule: Schedule = "cosine") -> Tensor:
    """Share still masked at `progress` (any shape, in [0, 1]), in the input's dtype. ValueError for another name."""
    if schedule == "cosine":
        return torch.cos(progress * (math.pi / 2)).clamp_min(0.0)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "arccos":
        return torch.arccos(progress) / (math.pi / 2)
    if schedule == "circle":
        return (1.0 - progress.square()).sqrt()
    raise ValueError(f"schedule {schedule!r} is not one of {', '.join(get_args(Schedule))}")


def masked_counts(total: int, steps: int, schedule: Schedule = "cosine") -> list[int]:
    """How many of `total` positions stay masked after each of `steps` steps, if nothing ties.

    After step s: min(masked now - 1, max(1, floor(total * share((s + 1) / steps)))), and 0 after the last, with the
    share and the product in float32 as the authors' code has them (floor(60 cos(pi / 3)) is 29 there, not 30). The
    list ends as soon as nothing is masked.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    # Correctly rounded float32: the argument is rounded, the function taken in float64 and rounded, so that no
    # machine's vectorised cosine can move a count.
    angle = torch.arange(1, steps + 1, dtype=torch.float64).div(steps).to(torch.float32)
    if schedule == "cosine":
        share = torch.cos((angle * (math.pi / 2)).double())
    else:
        share = masked_share(angle.double(), schedule)
    planned = (share.to(torch.float32) * total).floor().to(torch.int64).tolist()
    counts: list[int] = []
    masked = total
    for step in range(steps):
        if masked == 0:
            break
        masked = 0 if step == steps - 1 else min(masked - 1, max(1, planned[step]))
        counts.append(masked)
    return counts


def even_counts(total: int, steps: int) -> list[int]:
    """Positions revealed at each of `steps` steps: total // steps, the remainder going to the first steps."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return [total // steps + (step < total % steps) for step in range(steps)]
