"""What the pixels of a drawing show: its dominant colour by name, and the backgrounds it would be lost on.

In: uint8 RGBA drawings. Out: names. Used when the catalogue is built; needs OpenCV.
"""

import cv2
import numpy as np

from dimoo.data.stickers.colours import BACKGROUNDS

# A drawing is visible where its rim differs from the background by this much (CIE76 distance in Lab).
_VISIBLE_DISTANCE = 30.0
_VISIBLE_SHARE = 0.75
_RIM_PIXELS = 3
_LOWER_HUE_BOUNDS = (("red", 0), ("orange", 16), ("yellow", 40), ("green", 68), ("blue", 172), ("purple", 245))
_UPPER_HUE_BOUNDS = (("pink", 310), ("red", 346))


def dominant_colour(drawing: np.ndarray) -> str:
    """The name of the colour that covers most of an RGBA drawing, or "" where no colour clearly does."""
    pixels = drawing[drawing[..., 3] > 128][:, :3]
    names, counts = np.unique(_pixel_names(pixels), return_counts=True)
    order = np.argsort(-counts)
    shares = counts[order] / max(len(pixels), 1)
    second = shares[1] if len(shares) > 1 else 0.0
    return str(names[order[0]]) if shares[0] >= 0.45 and second <= 0.6 * shares[0] else ""


def hiding_backgrounds(drawing: np.ndarray) -> tuple[str, ...]:
    """Names of the backgrounds on which the rim of an RGBA drawing does not stand out."""
    solid = (np.pad(drawing[..., 3], _RIM_PIXELS) > 128).astype(np.uint8)
    inside = cv2.erode(solid, np.ones((2 * _RIM_PIXELS + 1,) * 2, np.uint8))[
        _RIM_PIXELS:-_RIM_PIXELS, _RIM_PIXELS:-_RIM_PIXELS
    ]
    rim = (drawing[..., 3] > 128) & (inside == 0)
    rim_lab = _lab(drawing[rim][:, :3])
    return tuple(
        name
        for name, colour in BACKGROUNDS.items()
        if (np.linalg.norm(rim_lab - _lab(np.array([colour])), axis=1) > _VISIBLE_DISTANCE).mean() < _VISIBLE_SHARE
    )


def _pixel_names(pixels: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0]
    hue, saturation, value = hsv.T
    names = np.full(len(pixels), "red", dtype="<U6")
    for name, bound in _LOWER_HUE_BOUNDS + _UPPER_HUE_BOUNDS:
        names[hue >= bound] = name
    reddish = (hue < 16) | (hue >= 310)
    names[reddish & (saturation < 0.55) & (value > 0.7)] = "pink"
    names[(hue >= 328) & (hue < 346) & (saturation > 0.8)] = "red"
    names[(hue >= 8) & (hue < 45) & (value < 0.8) & (saturation < 0.75)] = "brown"
    names[((hue < 45) | (hue >= 346)) & (value < 0.55)] = "brown"
    names[saturation < 0.18] = "grey"
    names[(saturation < 0.12) & (value > 0.85)] = "white"
    names[value < 0.28] = "black"
    return names


def _lab(pixels: np.ndarray) -> np.ndarray:
    lab: np.ndarray = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    return lab
