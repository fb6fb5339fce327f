"""Relatives of a scene that no instruction makes: in another style, a subject alone, masks over parts of it.

In: scenes and stickers. Out: scenes, words, and masks (bool (128, 128), True where to draw, whole 16 px patches).
"""

import re
from dataclasses import replace

import numpy as np

from dimoo.data.stickers.pictures import box
from dimoo.data.stickers.scenes import CANVAS, LARGE, Background, Scene, Sticker
from dimoo.data.stickers.words import Wording, article, describe

PATCH = 16


def in_style(scene: Scene, style: str) -> Scene:
    """The scene with every sticker in one style."""
    return replace(scene, stickers=tuple(replace(sticker, style=style) for sticker in scene.stickers))


def alone_on_white(subject: Sticker) -> Scene:
    """The sticker large and alone, as a subject is shown."""
    shown = Sticker(concept=subject.concept, style=subject.style, size=LARGE)
    return Scene(background=Background(), stickers=(shown,))


def subject_scene(subject: Sticker, scene: Scene) -> Scene | None:
    """The scene with the subject in place of its first sticker and in its style; None if it were there twice."""
    first, *others = scene.stickers
    if any(other.concept == subject.concept for other in others):
        return None
    starring = replace(first, concept=subject.concept, style=subject.style)
    return in_style(replace(scene, stickers=(starring, *others)), subject.style)


def subject_prompt(subject: Sticker, scene: Scene) -> str:
    """The caption of a scene with the subject called "this": "this fox on the left, on a blue background"."""
    words = describe(scene, Wording(places=True, background=True, size=True))
    size = next("big " if s.size == LARGE else "" for s in scene.stickers if s.concept == subject.concept)
    named = size + subject.concept
    return re.sub(rf"\b{re.escape(article(named))}\b", f"this {named}", words, count=1)


def mask_over(stickers: tuple[Sticker, ...]) -> np.ndarray:
    """The mask of all patches that the stickers' boxes touch."""
    mask = np.zeros((CANVAS, CANVAS), np.bool_)
    for sticker in stickers:
        top, left, size = box(sticker)
        rows = slice(max(top, 0) // PATCH * PATCH, -(-(top + size) // PATCH) * PATCH)
        columns = slice(max(left, 0) // PATCH * PATCH, -(-(left + size) // PATCH) * PATCH)
        mask[rows, columns] = True
    return mask


def half(side: str) -> np.ndarray:
    """The mask of the left, right, top or bottom half."""
    mask = np.zeros((CANVAS, CANVAS), np.bool_)
    middle = CANVAS // 2
    part = {
        "left": (slice(None), slice(0, middle)),
        "right": (slice(None), slice(middle, None)),
        "top": (slice(0, middle), slice(None)),
        "bottom": (slice(middle, None), slice(None)),
    }
    mask[part[side]] = True
    return mask


HALVES = ("left", "right", "top", "bottom")
