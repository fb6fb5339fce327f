"""Cross-entropy over hidden positions, with explicit weights.

The released code takes the plain mean over hidden positions (no 1/t weight); the paper's eq. 3 sums them. A weight
for each position says which: ones for the mean, `page_weights` for each page to count the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100  # the label of a position without loss, in the authors' data


def masked_cross_entropy(logits_MV: Tensor, targets_M: Tensor, weights_M: Tensor | None = None) -> Tensor:
    """Weighted mean of the cross-entropy (scalar, float32). Targets are indices into V; weights default to ones."""
    losses_M = F.cross_entropy(logits_MV.float(), targets_M, reduction="none")
    if weights_M is None:
        return losses_M.mean()
    return (losses_M * weights_M).sum() / weights_M.sum()


def page_weights(counts: list[int]) -> Tensor:
    """Weights (M) that make each page count the same, however many positions it hides."""
    return torch.cat([torch.full((count,), 1.0 / count) for count in counts if count])
