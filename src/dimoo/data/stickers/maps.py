"""Control maps: edges and depth of a scene, as uint8 pictures (height, width, 3), bright on dark.

Canny's detector is written out in NumPy with OpenCV's conventions (blur, Sobel, L1 magnitude of the strongest
channel), so that training and judging need no OpenCV; `tests/data` compares the two.
"""

import numpy as np

from dimoo.data.stickers.catalogue import Catalogue
from dimoo.data.stickers.pictures import silhouette
from dimoo.data.stickers.scenes import CANVAS, Scene

_FAR, _NEAR_BASE, _NEAR_STEP = 30, 110, 70
_LOW, _HIGH = 80, 200
_BLUR_3, _BLUR_5 = (0.25, 0.5, 0.25), (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))


def canny(picture: np.ndarray) -> np.ndarray:
    """Canny edges, white on black, thickened to two pixels so that they survive 16 px patches."""
    edges = np.zeros((picture.shape[0] + 1, picture.shape[1] + 1), np.bool_)
    found = canny_edges(np.rint(_filter(picture.astype(np.float64), _BLUR_3, _BLUR_3)))
    for down in (0, 1):
        for across in (0, 1):
            edges[down : down + found.shape[0], across : across + found.shape[1]] |= found
    return _three(edges[:-1, :-1].astype(np.uint8) * 255)


def canny_edges(picture: np.ndarray) -> np.ndarray:
    """Edges (H, W, bool) of (H, W, 3) values 0..255, one pixel wide.

    1. Sobel gradients; of each pixel the channel with the largest |dx| + |dy| [Canny 1986; OpenCV's magnitude]
    2. a pixel stays if no neighbour along its gradient is larger (four directions)
    3. pixels over the high threshold, and those over the low one that are connected to them
    """
    across = _filter(picture.astype(np.float64), (1, 2, 1), (-1, 0, 1))
    down = _filter(picture.astype(np.float64), (-1, 0, 1), (1, 2, 1))
    strongest = (np.abs(across) + np.abs(down)).argmax(axis=2)[..., None]
    across, down = (np.take_along_axis(part, strongest, 2)[..., 0] for part in (across, down))
    strength = np.abs(across) + np.abs(down)
    padded = np.pad(strength, 1)

    def at(y: int, x: int) -> np.ndarray:
        return padded[1 + y : 1 + y + strength.shape[0], 1 + x : 1 + x + strength.shape[1]]

    flat = np.abs(down) <= np.tan(np.pi / 8) * np.abs(across)
    steep = np.abs(down) >= np.tan(3 * np.pi / 8) * np.abs(across)
    same_sign = across * down >= 0
    ahead = np.select([flat, steep, same_sign], [at(0, 1), at(1, 0), at(1, 1)], at(1, -1))
    behind = np.select([flat, steep, same_sign], [at(0, -1), at(-1, 0), at(-1, -1)], at(-1, 1))
    thin = (strength > behind) & (strength >= ahead)
    weak, edges = thin & (strength > _LOW), thin & (strength > _HIGH)
    while True:
        grown = _grow(edges) & weak
        if np.array_equal(grown, edges):
            return edges
        edges = grown


def soft_edges(picture: np.ndarray) -> np.ndarray:
    """Soft edges, bright on black: the blurred gradient of the strongest channel. It stands in for a HED network."""
    blurred = np.rint(_filter(picture.astype(np.float64), _BLUR_5, _BLUR_5))
    strength = np.hypot(_filter(blurred, (1, 2, 1), (-1, 0, 1)), _filter(blurred, (-1, 0, 1), (1, 2, 1)))
    soft = _filter(strength.max(axis=2)[..., None], _BLUR_3, _BLUR_3)[..., 0]
    return _three(np.clip(soft * 0.6, 0, 255).astype(np.uint8))


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


def _filter(picture: np.ndarray, down: tuple[float, ...], across: tuple[float, ...]) -> np.ndarray:
    """A separable filter of (H, W, C), the border mirrored without its edge pixel."""
    reach = len(down) // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    height, width = picture.shape[:2]
    rows = np.tensordot(np.array(down, np.float64), [padded[i : i + height] for i in range(len(down))], 1)
    columns = [rows[:, i : i + width] for i in range(len(across))]
    filtered: np.ndarray = np.tensordot(np.array(across, np.float64), columns, 1)
    return filtered


def _grow(edges: np.ndarray) -> np.ndarray:
    padded = np.pad(edges, 1)
    height, width = edges.shape
    grown: np.ndarray = np.logical_or.reduce(
        [padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in _NEIGHBOURS]
    )
    return grown


def _three(channel: np.ndarray) -> np.ndarray:
    return np.repeat(channel[..., None], 3, 2)
