"""Scenes in words: lower-case plain English from a small, regular vocabulary.

In: a `Scene` and a `Wording` that says what to mention. Out: a caption that is true of the scene. `caption` draws the
wording by lot, so that captions leave different things open.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dimoo.data.stickers.catalogue import CORE, Catalogue
from dimoo.data.stickers.scenes import LARGE, Background, Scene, Sticker

NUMBERS = ("zero", "one", "two", "three", "four")
WHERE = {
    "left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom",
    "centre": "in the centre", "top left": "in the top left", "top right": "in the top right",
    "bottom left": "in the bottom left", "bottom right": "in the bottom right",
}  # fmt: skip
OPPOSITES = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
_CHINESE_COLOURS = {
    "white": "白色", "grey": "灰色", "black": "黑色", "pink": "粉色", "orange": "橙色",
    "yellow": "黄色", "green": "绿色", "blue": "蓝色", "purple": "紫色", "teal": "青色",
}  # fmt: skip
_FRAMES = ("{}", "a picture of {}", "draw {}")
_FRAME_ODDS = (0.8, 0.1, 0.1)
_CHINESE_ODDS = 0.1
_ONE_ODDS = 0.15


@dataclass(frozen=True, kw_only=True)
class Wording:
    """What a caption mentions. What it does not mention is left open.

    `colours` are the dominant colours of things not named by colour; `size` marks a large sticker as big; `relation`
    says how two stickers stand to each other (`flipped`: the later one is named first); `one` says "one fox".
    """

    styles: bool = False
    places: bool = False
    background: bool = False
    colours: bool = False
    size: bool = False
    relation: bool = False
    flipped: bool = False
    one: bool = False


FULL = Wording(styles=True, places=True, background=True, size=True)
SHORT = Wording(background=True)


def describe(scene: Scene, wording: Wording, catalogue: Catalogue | None = None) -> str:
    """The caption of a scene in the given wording."""
    shared_style = _shared_style(scene) if wording.styles and not (wording.places or wording.relation) else ""
    phrases = [_adjectives(sticker, wording, shared_style, catalogue) for sticker in scene.in_order]
    words = _things(scene, phrases, wording)
    if not words:
        return f"{article(background_words(scene.background))} background"
    if shared_style:
        words += f" in {shared_style} style"
    if not wording.background:
        return words
    comma = "," if shared_style or wording.places else ""
    return f"{words}{comma} on {article(background_words(scene.background))} background"


def caption(scene: Scene, rng: np.random.Generator, catalogue: Catalogue | None = None) -> str:
    """A caption in a wording drawn by lot; of a tenth of the lone stickers in Chinese."""
    catalogue = catalogue or Catalogue.load()
    if len(scene.stickers) == 1 and rng.random() < _CHINESE_ODDS:
        return _chinese(scene, rng, catalogue)
    words = describe(scene, sample_wording(scene, rng), catalogue)
    return _FRAMES[rng.choice(len(_FRAMES), p=_FRAME_ODDS)].format(words)


def sample_wording(scene: Scene, rng: np.random.Generator) -> Wording:
    """What to mention of a scene, drawn by lot: everything in two fifths of the cases, since what is left open teaches
    no words, and hardly anything in a fifth."""
    draw = rng.random()
    if draw < 0.4:
        return FULL
    if draw < 0.6:
        return Wording(background=bool(rng.random() < 0.5), one=bool(rng.random() < _ONE_ODDS))
    several = len(scene.stickers) > 1
    styles, background, colours, size, flipped, one = (rng.random(6) < (0.5, 0.5, 0.2, 0.3, 0.5, _ONE_ODDS)).tolist()
    relation = relation_of(scene) is not None and bool(rng.random() < 0.5)
    places = not relation and bool(rng.random() < (0.4 if several else 0.3))
    return Wording(
        styles=styles,
        places=places,
        background=background,
        colours=colours,
        size=size,
        relation=relation,
        flipped=flipped,
        one=one and not places,
    )


def brief_wording(scene: Scene, rng: np.random.Generator) -> Wording:
    """What a brief caption mentions: how two stand to each other, or now and then styles or the background."""
    styles, background, related, flipped, one = (rng.random(5) < (0.35, 0.15, 0.6, 0.5, 0.25)).tolist()
    relation = related and relation_of(scene) is not None
    return Wording(styles=styles and not relation, background=background, relation=relation, flipped=flipped, one=one)


def relation_of(scene: Scene) -> str | None:
    """How the first of two stickers (`Scene.in_order`) stands to the second; None where no word is clearly right."""
    if len(scene.stickers) != 2 or len({sticker.concept for sticker in scene.stickers}) != 2:
        return None
    first, second = scene.in_order
    across, down = abs(first.column - second.column), abs(first.row - second.row)
    if across == down or LARGE in (first.size, second.size):
        return None
    return "to the left of" if across > down else "above"


def background_words(background: Background) -> str:
    """ "blue", "blue over pink" (upper and lower half), "blue to white" (a gradient)."""
    if background.kind == "two-tone":
        return " over ".join(background.colours)
    return background.colours[0] + (" to white" if background.kind == "gradient" else "")


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(words: str) -> str:
    """The plural of a noun or of a phrase that ends in one."""
    if words.endswith(("s", "x", "ch", "sh")):
        return words + "es"
    if words.endswith("y") and words[-2] not in "aeiou":
        return words[:-1] + "ies"
    return words + "s"


def counted(words: str, count: int, *, one: bool = False) -> str:
    """ "a fox", "two foxes"; with `one`, "one fox"."""
    if count == 1:
        return f"one {words}" if one else article(words)
    return f"{NUMBERS[count]} {plural(words)}"


def join(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def _things(scene: Scene, phrases: list[str], wording: Wording) -> str:
    if wording.relation:
        relation = relation_of(scene)
        assert relation is not None, "a relation is worded only where there is one"
        first, second = (article(phrase) for phrase in phrases)
        return f"{second} {OPPOSITES[relation]} {first}" if wording.flipped else f"{first} {relation} {second}"
    if wording.places:
        return join([f"{article(p)} {WHERE[s.place]}" for p, s in zip(phrases, scene.in_order, strict=True)])
    return join([counted(phrase, phrases.count(phrase), one=wording.one) for phrase in dict.fromkeys(phrases)])


def _adjectives(sticker: Sticker, wording: Wording, shared_style: str, catalogue: Catalogue | None) -> str:
    parts = ["big"] if wording.size and sticker.size == LARGE else []
    if wording.styles and not shared_style:
        parts.append(sticker.style)
    if wording.colours and not CORE[sticker.concept].colour:
        parts.append((catalogue or Catalogue.load()).colour(*sticker.cell))
    return " ".join(part for part in (*parts, sticker.concept) if part)


def _shared_style(scene: Scene) -> str:
    styles = {sticker.style for sticker in scene.stickers}
    return styles.pop() if len(styles) == 1 and len(scene.stickers) > 1 else ""


def _chinese(scene: Scene, rng: np.random.Generator, catalogue: Catalogue) -> str:
    sticker, background = scene.stickers[0], scene.background
    name = catalogue.facts[sticker.concept].chinese
    if background.kind != "plain" or rng.random() < 0.5:
        return name
    return f"{_CHINESE_COLOURS[background.colours[0]]}背景上的{name}"
