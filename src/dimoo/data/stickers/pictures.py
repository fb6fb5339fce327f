"""Pixels of scenes.

In: a `Scene`. Out: a uint8 picture (height, width, 3), the box of a sticker, or where it covers the canvas.
"""

import functools

import numpy as np

from dimoo.data.stickers.catalogue import Catalogue
from dimoo.data.stickers.colours import BACKGROUNDS
from dimoo.data.stickers.scenes import CANVAS, LATTICE, Background, Scene, Sticker

SIDES = range(64, 257, 16)


def draw(scene: Scene, catalogue: Catalogue | None = None, *, height: int = CANVAS, width: int = CANVAS) -> np.ndarray:
    """The picture of a scene: uint8 (height, width, 3). Sides are multiples of 16 from 64 to 256, at most 2:1."""
    _check_size(height, width)
    catalogue = catalogue or Catalogue.load()
    canvas = _background(scene.background, height, width).copy()
    for sticker in scene.stickers:
        top, left, size = box(sticker, height=height, width=width)
        inked, clear = catalogue.drawing(*sticker.cell, size=size)
        rows, columns = slice(max(top, 0), min(top + size, height)), slice(max(left, 0), min(left + size, width))
        cut = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        canvas[rows, columns] = (inked[cut] + canvas[rows, columns] * clear[cut] + 127) // 255
    return canvas.astype(np.uint8)


def box(sticker: Sticker, *, height: int = CANVAS, width: int = CANVAS) -> tuple[int, int, int]:
    """Top, left and side of a sticker's square in pixels. On other canvases it scales with the shorter side."""
    shorter = min(height, width)
    size = sticker.size * shorter // CANVAS
    top = _centre(sticker.row, height, shorter) + sticker.dy * shorter // CANVAS - size // 2
    left = _centre(sticker.column, width, shorter) + sticker.dx * shorter // CANVAS - size // 2
    return top, left, size


def silhouette(sticker: Sticker, catalogue: Catalogue) -> np.ndarray:
    """Where a sticker covers the canvas: bool (128, 128)."""
    top, left, size = box(sticker)
    clear = catalogue.drawing(*sticker.cell, size=size)[1][..., 0]
    padded = np.zeros((CANVAS + 2 * size, CANVAS + 2 * size), bool)
    padded[top + size : top + 2 * size, left + size : left + 2 * size] = clear < 128
    return padded[size : size + CANVAS, size : size + CANVAS]


def _check_size(height: int, width: int) -> None:
    if height not in SIDES or width not in SIDES or max(height, width) > 2 * min(height, width):
        raise ValueError(f"cannot draw {height}x{width}: sides are multiples of 16 from 64 to 256, at most 2:1")


def _centre(index: int, side: int, shorter: int) -> int:
    margin = LATTICE[0] * shorter // CANVAS
    return (margin, side // 2, side - margin)[index]


@functools.lru_cache(maxsize=1024)
def _background(background: Background, height: int, width: int) -> np.ndarray:
    colours = [np.array(BACKGROUNDS[name], np.float64) for name in background.colours]
    rows = (np.arange(height)[:, None] + 0.5) / height
    if background.kind == "two-tone":
        column = np.where(rows < 0.5, colours[0], colours[1])
    elif background.kind == "gradient":
        column = colours[0] + (255 - colours[0]) * rows
    else:
        column = np.repeat(colours[0][None], height, 0)
    return np.repeat(column.round().astype(np.uint16)[:, None], width, 1)
