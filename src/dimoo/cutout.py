"""Cutting a sticker out of its plain background, with soft edges (`t2i --transparent`).

In: an RGB picture. Out: RGBA, the background transparent. ValueError if the background is not of one colour.

    1. the background's colour is the median of the border; enough of the border must be near it
    2. flood from the border through what is near that colour: holes inside the drawing stay
    3. along the flood's edge a pixel is a mixture, c = a f + (1 - a) b, with f the nearby pixel furthest from the
       background: this gives its alpha and takes the background's colour out of it
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dimoo.tokenizers.resize import to_pixels

NEAR = 28.0  # levels of distance that a tokenizer's noise may put on a plain ground
CLEAN = 8.0  # levels that count as the ground even where it has no noise
PLAIN_SHARE = 0.7  # of the border that must be near its median: stickers may touch the rest
EDGE = 2  # pixels


def cut_out(picture: Image.Image) -> Image.Image:
    """The drawing alone, on nothing."""
    pixels = to_pixels(picture).astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(border, axis=0)
    off = np.abs(border - background).max(axis=-1)
    plain = float((off <= NEAR).mean())
    if plain < PLAIN_SHARE:
        raise ValueError(
            f"the background is not plain: {plain:.0%} of the border is of one colour, {PLAIN_SHARE:.0%} is needed to "
            "cut the drawing out; ask for a plain background, or try another seed"
        )
    near = float(np.clip(2 * np.percentile(off[off <= NEAR], 95), CLEAN, NEAR))  # no more than the ground's own noise
    distance = np.abs(pixels - background).max(axis=-1)
    outside = flood(distance <= near)
    if outside.all():
        raise ValueError("nothing is left after cutting out: the picture is all background")
    furthest, colour = _strongest_nearby(distance, pixels, outside)
    edge = ~outside & _grown(outside, EDGE)
    alpha = np.where(outside, 0.0, 1.0)
    alpha[edge] = np.clip(distance[edge] / np.maximum(furthest[edge], 1.0), 0.0, 1.0)
    out = np.where(edge[..., None], colour, pixels)
    rgba = np.dstack([out, alpha[..., None] * 255]).round().clip(0, 255).astype(np.uint8)
    rgba[outside] = 0
    return Image.fromarray(rgba)


def flood(open_: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The open cells that are joined to the border, side by side."""
    height, width = open_.shape
    walls = np.pad(~open_, 1, constant_values=True).ravel()
    stride = width + 2
    seen = walls.copy()
    inner = np.zeros_like(open_)
    inner[[0, -1], :] = inner[:, [0, -1]] = True
    front = np.flatnonzero(np.pad(inner & open_, 1).ravel())
    seen[front] = True
    while len(front):
        beside = np.unique(np.concatenate([front + step for step in (1, -1, stride, -stride)]))
        front = beside[~seen[beside]]
        seen[front] = True
    reached: NDArray[np.bool_] = (seen & ~walls).reshape(height + 2, stride)[1:-1, 1:-1]
    return reached


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    return np.logical_or.reduce([_shifted(mask, dy, dx, fill=False) for dy, dx in _around(pixels)])


def _strongest_nearby(
    distance: NDArray[np.float32], pixels: NDArray[np.float32], outside: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each pixel, the drawn pixel around it that is furthest from the background: its distance, its colour."""
    furthest = np.where(outside, -1.0, distance).astype(np.float32)
    best, colour = furthest.copy(), pixels.copy()
    for dy, dx in _around(EDGE + 1):
        other = _shifted(furthest, dy, dx, fill=-1.0)
        better = other > best
        best = np.where(better, other, best)
        colour[better] = _shifted(pixels, dy, dx, fill=0.0)[better]
    return best, colour


def _around(pixels: int) -> list[tuple[int, int]]:
    span = range(-pixels, pixels + 1)
    return [(dy, dx) for dy in span for dx in span if dy * dy + dx * dx <= pixels * pixels + 1]


def _shifted(values: NDArray, dy: int, dx: int, *, fill: float) -> NDArray:
    """values[y + dy, x + dx], `fill` beyond the border."""
    height, width = values.shape[:2]
    out = np.full_like(values, fill)
    rows = slice(max(0, -dy), min(height, height - dy))
    columns = slice(max(0, -dx), min(width, width - dx))
    from_rows = slice(rows.start + dy, rows.stop + dy)
    from_columns = slice(columns.start + dx, columns.stop + dx)
    out[rows, columns] = values[from_rows, from_columns]
    return out
