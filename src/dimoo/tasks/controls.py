"""Control maps from a photograph: canny edges by OpenCV. Other maps (hed, depth, openpose) are supplied by the user."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dimoo.tokenizers.resize import to_pixels


def canny(picture: Image.Image, *, low: int = 100, high: int = 200) -> Image.Image:
    """White edges on black, RGB, of the picture's size. `low` and `high` are Canny's thresholds, 0..255."""
    try:
        import cv2
    except ImportError as error:
        raise ValueError("canny maps need OpenCV: pip install 'dimoo[control]'") from error
    edges = cv2.Canny(to_pixels(picture), low, high)
    return Image.fromarray(np.repeat(edges[..., None], 3, axis=2))
