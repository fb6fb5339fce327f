"""The world of stickers: scenes of emoji-style art whose every fact is known, their pictures, words and tasks."""

from dimoo.data.stickers.catalogue import CORE, STYLES, Catalogue
from dimoo.data.stickers.maps import canny, depth, soft_edges
from dimoo.data.stickers.pictures import draw
from dimoo.data.stickers.scenes import Background, Scene, Sticker, is_held_out, sample_scene
from dimoo.data.stickers.stream import picture

__all__ = [
    "CORE",
    "STYLES",
    "Background",
    "Catalogue",
    "Scene",
    "Sticker",
    "canny",
    "depth",
    "draw",
    "is_held_out",
    "picture",
    "sample_scene",
    "soft_edges",
]
