"""The stream of pictures a VQ model learns from.

In: a seed. Out: a uint8 picture (128, 128, 3): scenes mostly, and everything else that is ever tokenised.
"""

import numpy as np

from dimoo.data.stickers.catalogue import Catalogue
from dimoo.data.stickers.maps import canny, depth, soft_edges
from dimoo.data.stickers.pictures import draw
from dimoo.data.stickers.scenes import Background, Scene, Split, generator, sample_scene

_KINDS = ("scene", "layered", "lone", "blank", "canny", "soft edges", "depth")
_ODDS = (0.66, 0.05, 0.05, 0.02, 0.1, 0.06, 0.06)


def picture(seed: int | np.random.Generator, split: Split = "train", catalogue: Catalogue | None = None) -> np.ndarray:
    """One picture: a scene, a layered scene, a lone sticker on white, a blank background or a control map."""
    rng = generator(seed, split)
    catalogue = catalogue or Catalogue.load()
    kind = _KINDS[rng.choice(len(_KINDS), p=_ODDS)]
    layered = kind == "layered" or (kind == "depth" and rng.random() < 0.5)
    count = {"lone": 1, "blank": 0}.get(kind)
    scene = sample_scene(rng, split, count=count, layered=layered, catalogue=catalogue)
    if kind == "lone":
        scene = Scene(background=Background(), stickers=scene.stickers)
    if kind == "depth":
        return depth(scene, catalogue)
    drawn = draw(scene, catalogue)
    if kind == "canny":
        return canny(drawn)
    return soft_edges(drawn) if kind == "soft edges" else drawn
