"""Painted masks: which cells of a picture are to be drawn anew.

In: a mask in pixels, white or True = draw. Out: booleans over the grid of codes, and softened weights for pasting.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def centred_rectangle(height: int, width: int, height_ratio: float, width_ratio: float) -> Tensor:
    """The authors' rectangle (H, W, bool): ratios of the sides, rounded to whole pixels, in the middle."""
    for name, ratio in (("height_ratio", height_ratio), ("width_ratio", width_ratio)):
        if not 0 < ratio <= 1:
            raise ValueError(f"{name} must lie in (0, 1], got {ratio}")
    tall, wide = round(height * height_ratio), round(width * width_ratio)
    return rectangle(height, width, ((height - tall) // 2, (width - wide) // 2, tall, wide))


def rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    """A box (top, left, height, width) of pixels as a mask (H, W, bool). ValueError if it lies outside."""
    top, left, tall, wide = box
    if tall < 1 or wide < 1 or top < 0 or left < 0 or top + tall > height or left + wide > width:
        raise ValueError(
            f"the rectangle {box} (top, left, height, width) does not lie within {height} x {width} pixels"
        )
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + tall, left : left + wide] = True
    return mask


def dilate(mask: Tensor, pixels: int) -> Tensor:
    """The mask grown by `pixels` in every direction (square neighbourhood); takes as long for many as for few."""
    if pixels < 0:
        raise ValueError(f"dilation must be 0 or more pixels, got {pixels}")
    for _ in range(2 if pixels else 0):  # along the rows, then along the columns
        within = F.pad(mask, (pixels + 1, pixels)).cumsum(-1, dtype=torch.int32)
        mask = (within[:, 2 * pixels + 1 :] > within[:, : -2 * pixels - 1]).T
    return mask


def soften(mask: Tensor, pixels: int) -> Tensor:
    """Weights (H, W) in 0..1: 1 inside the mask, falling to 0 over `pixels` outside it."""
    weight = mask.float()
    for distance in range(1, pixels + 1):
        mask = dilate(mask, 1)
        weight = torch.maximum(weight, mask.float() * (1 - distance / (pixels + 1)))
    return weight


def mask_cells(mask: Tensor, factor: int, *, cover: float = 0.5) -> Tensor:
    """Cells (R, C, bool) of which more than the share `cover` is masked (strictly); 0 takes every touched cell."""
    share = F.avg_pool2d(mask[None, None].float(), factor)
    return share[0, 0] > cover


def fill_smoothly(pixels_HWC: Tensor, mask: Tensor) -> Tensor:
    """Masked pixels replaced by averages of the known ones around them, coarse to fine (pull-push).

    What was under the mask can then not leak into the codes of its neighbours. Float (H, W, 3) in and out.
    """
    levels = [(pixels_HWC.permute(2, 0, 1)[None] * (~mask), (~mask)[None, None].float())]
    while max(levels[-1][0].shape[2:]) > 1:
        colour, weight = levels[-1]
        even = (colour.shape[2] % 2, colour.shape[3] % 2)
        padding = (0, even[1], 0, even[0])
        levels.append((F.avg_pool2d(F.pad(colour, padding), 2), F.avg_pool2d(F.pad(weight, padding), 2)))
    filled = levels[-1][0] / levels[-1][1].clamp_min(1e-6)
    for colour, weight in reversed(levels[:-1]):
        coarse = F.interpolate(filled, scale_factor=2, mode="nearest")[:, :, : colour.shape[2], : colour.shape[3]]
        filled = torch.where(weight > 0, colour / weight.clamp_min(1e-6), coarse)
    return filled[0].permute(1, 2, 0)
