"""Control maps: edges and depth of a scene, as uint8 pictures (height, width, 3), bright on dark.

The edge maps need OpenCV, which comes with the extra "control".
"""

from typing import Any

import numpy as np

from dimoo.data.stickers.catalogue import Catalogue
from dimoo.data.stickers.pictures import silhouette
from dimoo.data.stickers.scenes import CANVAS, Scene

_FAR, _NEAR_BASE, _NEAR_STEP = 30, 110, 70


def canny(picture: np.ndarray) -> np.ndarray:
    """OpenCV's Canny edges, white on black, thickened to two pixels so that they survive 16 px patches."""
    cv2 = _opencv()
    edges = cv2.Canny(cv2.GaussianBlur(picture, (3, 3), 0), 80, 200)
    return _three(cv2.dilate(edges, np.ones((2, 2), np.uint8)))


def soft_edges(picture: np.ndarray) -> np.ndarray:
    """Soft edges, bright on black: the blurred gradient of the strongest channel. It stands in for a HED network."""
    cv2 = _opencv()
    blurred = cv2.GaussianBlur(picture, (5, 5), 0).astype(np.float32)
    across, down = cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)
    strength = np.hypot(across, down).max(axis=2)
    return _three(np.clip(cv2.GaussianBlur(strength, (3, 3), 0) * 0.6, 0, 255).astype(np.uint8))


def depth(scene: Scene, catalogue: Catalogue | None = None) -> np.ndarray:
    """Depth of a scene, near is bright: a larger sticker is nearer, one in front of another nearer still."""
    catalogue = catalogue or Catalogue.load()
    nearness = np.full((CANVAS, CANVAS), _FAR, np.int64)
    for sticker in scene.stickers:
        covered = silhouette(sticker, catalogue)
        behind = int(nearness[covered].max(initial=_FAR))
        own = _NEAR_BASE + sticker.size // 2
        nearness[covered] = own if behind == _FAR else max(own, behind + _NEAR_STEP)
    return _three(np.minimum(nearness, 255).astype(np.uint8))


def _opencv() -> Any:
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ValueError("edge maps need OpenCV: install dimoo[control]") from error
    return cv2


def _three(channel: np.ndarray) -> np.ndarray:
    return np.repeat(channel[..., None], 3, 2)
