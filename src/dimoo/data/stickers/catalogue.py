"""The core catalogue: 72 concepts, each drawn in four styles, and the drawings shipped with the package. A wide one,
built beside it, adds what else the four art sets draw: for training only, so that a style is more than its 72 drawings.

In: nothing (the shipped drawings) or a folder written by `dimoo.data.stickers.build`.
Out: RGBA drawings at any size, and what is known of them (colour, backgrounds they show on, Chinese name, tags).
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

STYLES = ("flat", "3d", "noto", "twemoji")
DRAWING_SIZE = 96
ATLAS_COLUMNS = 9
SHIPPED = Path(__file__).parents[2] / "assets" / "stickers"

# noun, code point
_PLAIN = (
    ("fox", "1f98a"), ("frog", "1f438"), ("lion", "1f981"), ("pig", "1f437"), ("monkey", "1f435"),
    ("koala", "1f428"), ("penguin", "1f427"), ("owl", "1f989"), ("butterfly", "1f98b"), ("ladybug", "1f41e"),
    ("octopus", "1f419"), ("whale", "1f433"), ("turtle", "1f422"), ("crab", "1f980"), ("snail", "1f40c"),
    ("bee", "1f41d"), ("elephant", "1f418"), ("dodo", "1f9a4"), ("dinosaur", "1f995"), ("cat", "1f431"),
    ("flamingo", "1f9a9"),
    ("banana", "1f34c"), ("strawberry", "1f353"), ("watermelon", "1f349"), ("pineapple", "1f34d"),
    ("lemon", "1f34b"), ("pear", "1f350"), ("carrot", "1f955"), ("mushroom", "1f344"), ("avocado", "1f951"),
    ("pizza", "1f355"), ("hamburger", "1f354"),
    ("car", "1f697"), ("tractor", "1f69c"), ("rocket", "1f680"), ("sailboat", "26f5"), ("train", "1f682"),
    ("key", "1f511"), ("hammer", "1f528"), ("guitar", "1f3b8"), ("umbrella", "2614"), ("crown", "1f451"),
    ("balloon", "1f388"), ("star", "2b50"), ("anchor", "2693"), ("cactus", "1f335"), ("sunflower", "1f33b"),
    ("tree", "1f332"), ("robot", "1f916"),
)  # fmt: skip

# noun, {colour: code point}
_COLOURED = (
    (
        "heart",
        {"red": "2764", "orange": "1f9e1", "yellow": "1f49b", "green": "1f49a", "blue": "1f499", "purple": "1f49c"},
    ),
    (
        "circle",
        {"red": "1f534", "orange": "1f7e0", "yellow": "1f7e1", "green": "1f7e2", "blue": "1f535", "purple": "1f7e3"},
    ),
    ("square", {"red": "1f7e5", "orange": "1f7e7", "green": "1f7e9", "blue": "1f7e6", "purple": "1f7ea"}),
    ("book", {"red": "1f4d5", "orange": "1f4d9", "green": "1f4d7", "blue": "1f4d8"}),
    ("apple", {"red": "1f34e", "green": "1f34f"}),
)


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One thing the world contains. `name` is unique: "fox", or colour and noun as in "red heart"."""

    noun: str
    code: str
    colour: str = ""

    @property
    def name(self) -> str:
        return f"{self.colour} {self.noun}".strip()


CORE: dict[str, Concept] = {
    concept.name: concept
    for concept in (
        *(Concept(noun=noun, code=code) for noun, code in _PLAIN),
        *(Concept(noun=noun, colour=hue, code=code) for noun, hues in _COLOURED for hue, code in hues.items()),
    )
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a concept besides its drawings. `colours` and `hidden_on` are keyed by style."""

    chinese: str
    group: str
    tags: tuple[str, ...]
    colours: dict[str, str]
    hidden_on: dict[str, frozenset[str]]


class Catalogue:
    """Drawings by (concept, style), resized once per size and kept.

    `drawings` maps (concept name, style) to uint8 RGBA, DRAWING_SIZE square. Do not write into what it returns.
    """

    def __init__(self, *, drawings: dict[tuple[str, str], np.ndarray], facts: dict[str, Facts]) -> None:
        self.drawings = drawings
        self.facts = facts
        self.concepts = tuple(facts)
        self._sized: dict[tuple[str, str, int], tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def load(cls, folder: Path | None = None) -> "Catalogue":
        """The catalogue in `folder`, by default the one shipped with the package (read once)."""
        return _load(folder or SHIPPED)

    def drawing(self, concept: str, style: str, *, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Colour times alpha (uint16, 0..255·255) and 255 minus alpha (uint16, one channel), size x size."""
        key = (concept, style, size)
        if key not in self._sized:
            if key[:2] not in self.drawings:
                raise ValueError(f"no drawing of {concept!r} in style {style!r}; styles are {', '.join(STYLES)}")
            image = Image.fromarray(self.drawings[concept, style])
            if size != DRAWING_SIZE:
                image = image.resize((size, size), Image.Resampling.LANCZOS)
            rgba = np.asarray(image).astype(np.uint16)
            self._sized[key] = (rgba[..., :3] * rgba[..., 3:], 255 - rgba[..., 3:])
        return self._sized[key]

    def colour(self, concept: str, style: str) -> str:
        """The dominant colour of a drawing: given for coloured concepts, else measured; "" where none dominates."""
        given = CORE[concept].colour if concept in CORE else ""
        return given or self.facts[concept].colours[style]

    def shows_on(self, concept: str, style: str, colours: tuple[str, ...]) -> bool:
        """Whether the drawing stands out on every one of the named background colours."""
        return self.facts[concept].hidden_on[style].isdisjoint(colours)


@functools.cache
def _load(folder: Path) -> Catalogue:
    index = folder / "catalogue.json"
    if not index.exists():
        command = "python -m dimoo.data.stickers.build [--wide]"
        raise ValueError(f"no sticker catalogue in {folder}; build one with: {command}")
    facts = {
        name: Facts(
            chinese=entry["chinese"],
            group=entry["group"],
            tags=tuple(entry["tags"]),
            colours=entry["colours"],
            hidden_on={style: frozenset(names) for style, names in entry["hidden_on"].items()},
        )
        for name, entry in json.loads(index.read_text(encoding="utf-8")).items()
    }
    drawings: dict[tuple[str, str], np.ndarray] = {}
    for style in STYLES:
        atlas = np.asarray(Image.open(folder / f"{style}.webp").convert("RGBA"))
        for place, name in enumerate(facts):
            top, left = (DRAWING_SIZE * part for part in divmod(place, ATLAS_COLUMNS))
            drawings[name, style] = atlas[top : top + DRAWING_SIZE, left : left + DRAWING_SIZE]
    return Catalogue(drawings=drawings, facts=facts)
