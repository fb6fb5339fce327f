"""Scenes: a background and up to four stickers, as plain data, and how they are drawn by lot.

In: a seed or generator and a split. Out: a `Scene`. Nothing here makes pixels; `pictures.draw` does.
Geometry is that of the 128 px canvas: 16 px patches, sticker boxes of 96 or 48 px whose centres lie on a fixed 3x3
lattice, and a jitter of at most 1 px (few distinct patches are quickly learnt).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from dimoo.data.stickers.catalogue import STYLES, Catalogue
from dimoo.data.stickers.colours import BACKGROUNDS
from dimoo.data.stickers.held_out import CELLS, PAIRS

Split = Literal["train", "eval"]
Kind = Literal["plain", "two-tone", "gradient"]

CANVAS = 128
LARGE, SMALL = 96, 48
JITTER = 1
# place: (row, column) of the 3x3 lattice
PLACES: dict[str, tuple[int, int]] = {
    "top left": (0, 0), "top": (0, 1), "top right": (0, 2),
    "left": (1, 0), "centre": (1, 1), "right": (1, 2),
    "bottom left": (2, 0), "bottom": (2, 1), "bottom right": (2, 2),
}  # fmt: skip
LATTICE = (24, 64, 104)
GRADIENT_COLOURS = tuple(name for name in BACKGROUNDS if name not in ("white", "grey"))

_STREAMS: dict[str, int] = {"train": 1, "eval": 2}
_COUNT_ODDS = (0.03, 0.37, 0.30, 0.16, 0.14)
_JITTER_ODDS = (0.1, 0.8, 0.1)
_KIND_ODDS = (0.65, 0.2, 0.15)
_LONE_LARGE_ODDS = 0.55
_ONE_STYLE_ODDS = 0.55
_ALL_SAME_ODDS = 0.3
_ONE_TWIN_ODDS = 0.2
_BACKGROUND_TRIES = 30


@dataclass(frozen=True, kw_only=True)
class Background:
    """plain: (colour,); two-tone: (upper half, lower half); gradient: (colour,), fading to white downwards."""

    kind: Kind = "plain"
    colours: tuple[str, ...] = ("white",)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"background kind {self.kind!r} is none of {', '.join(get_args(Kind))}")
        if len(self.colours) != (2 if self.kind == "two-tone" else 1):
            raise ValueError(f"a {self.kind} background cannot have the colours {self.colours}")
        unknown = set(self.colours) - BACKGROUNDS.keys()
        if unknown:
            raise ValueError(f"unknown background colours {sorted(unknown)}; choose from {', '.join(BACKGROUNDS)}")

    @property
    def shown(self) -> tuple[str, ...]:
        """Every named colour a sticker may stand on."""
        return (*self.colours, "white") if self.kind == "gradient" else self.colours


@dataclass(frozen=True, kw_only=True)
class Sticker:
    """One drawing on the canvas: concept by name ("fox", "red heart"), style, place, box size and jitter in pixels."""

    concept: str
    style: str
    place: str = "centre"
    size: int = SMALL
    dx: int = 0
    dy: int = 0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"unknown place {self.place!r}; choose from {', '.join(PLACES)}")
        if self.style not in STYLES:
            raise ValueError(f"unknown style {self.style!r}; choose from {', '.join(STYLES)}")
        if max(abs(self.dx), abs(self.dy)) > JITTER:
            raise ValueError(f"jitter ({self.dx}, {self.dy}) is over {JITTER} px")

    @property
    def row(self) -> int:
        return PLACES[self.place][0]

    @property
    def column(self) -> int:
        return PLACES[self.place][1]

    @property
    def cell(self) -> tuple[str, str]:
        """The (concept, style) cell of the catalogue."""
        return (self.concept, self.style)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A background and its stickers, back to front."""

    background: Background
    stickers: tuple[Sticker, ...] = ()

    @property
    def in_order(self) -> tuple[Sticker, ...]:
        """Stickers as captions list them: top to bottom, then left to right; two by `comes_before`."""
        if len(self.stickers) == 2:
            first, second = self.stickers
            return (first, second) if comes_before(first, second) else (second, first)
        return tuple(sorted(self.stickers, key=lambda sticker: PLACES[sticker.place]))

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Ordered pairs of different concepts, the one that `comes_before` first."""
        return frozenset(
            (a.concept, b.concept)
            for a in self.stickers
            for b in self.stickers
            if a.concept != b.concept and comes_before(a, b)
        )


def comes_before(a: Sticker, b: Sticker) -> bool:
    """Whether `a` is left of `b`, where they are further apart across than down, or else above it."""
    across, down = b.column - a.column, b.row - a.row
    return across > 0 if abs(across) > abs(down) else down > 0


def is_held_out(scene: Scene) -> bool:
    """Whether a scene contains a (concept, style) cell or an ordered pair that training never sees."""
    return any(sticker.cell in CELLS for sticker in scene.stickers) or not scene.pairs.isdisjoint(PAIRS)


def is_visible(scene: Scene, catalogue: Catalogue) -> bool:
    """Whether every sticker stands out on the background."""
    return all(catalogue.shows_on(*sticker.cell, scene.background.shown) for sticker in scene.stickers)


def generator(seed: int | np.random.Generator, split: Split = "train") -> np.random.Generator:
    """The generator of a seed; training and evaluation seeds are different streams, so none is shared."""
    if isinstance(seed, np.random.Generator):
        return seed
    if split not in _STREAMS:
        raise ValueError(f"unknown split {split!r}; choose from {', '.join(_STREAMS)}")
    return np.random.default_rng((_STREAMS[split], seed))


def sample_scene(
    seed: int | np.random.Generator,
    split: Split = "train",
    *,
    count: int | None = None,
    layered: bool = False,
    catalogue: Catalogue | None = None,
) -> Scene:
    """A scene drawn by lot, with every sticker visible.

    In split "train" nothing held out occurs; in "eval" half of the scenes with stickers hold something held out
    (`is_held_out` tells which). `count`, 0 to 4, fixes the number of stickers. `layered` puts a
    large sticker behind one or two small ones that overlap it.
    """
    if count is not None and count not in range(len(_COUNT_ODDS)):
        raise ValueError(f"a scene has 0 to {len(_COUNT_ODDS) - 1} stickers, not {count}")
    rng = generator(seed, split)
    catalogue = catalogue or Catalogue.load()
    names = tuple(catalogue.concepts)
    number = int(rng.choice(len(_COUNT_ODDS), p=_COUNT_ODDS)) if count is None else count
    want_held_out = split == "eval" and rng.random() < 0.5 and number > 0
    while True:
        stickers = _layers(rng, names) if layered else _stickers(rng, number, names)
        scene = Scene(background=Background(), stickers=stickers)
        if is_held_out(scene) != want_held_out:
            continue
        for _ in range(_BACKGROUND_TRIES):  # many, so that stickers that show on few backgrounds are not rarer
            scene = replace(scene, background=sample_background(rng))
            if is_visible(scene, catalogue):
                return scene


def every_drawing(rng: np.random.Generator, *, each: int = 1, catalogue: Catalogue | None = None) -> list[Scene]:
    """Every (concept, style) alone, small at some place and large, `each` times on backgrounds that it shows on."""
    catalogue = catalogue or Catalogue.load()
    scenes = []
    for concept, style, size in itertools.product(catalogue.concepts, STYLES, (SMALL, LARGE)):
        for _ in range(each):
            place = str(rng.choice(list(PLACES))) if size == SMALL else "centre"
            sticker = Sticker(concept=concept, style=style, place=place, size=size, dx=jitter(rng), dy=jitter(rng))
            background = sample_background(rng)
            while not is_visible(Scene(background=background, stickers=(sticker,)), catalogue):
                background = sample_background(rng)
            scenes.append(Scene(background=background, stickers=(sticker,)))
    return scenes


def sample_background(rng: np.random.Generator) -> Background:
    """A background drawn by lot."""
    kind = get_args(Kind)[rng.choice(3, p=_KIND_ODDS)]
    if kind == "two-tone":
        upper, lower = rng.choice(list(BACKGROUNDS), size=2, replace=False).tolist()
        return Background(kind=kind, colours=(upper, lower))
    names = GRADIENT_COLOURS if kind == "gradient" else tuple(BACKGROUNDS)
    return Background(kind=kind, colours=(str(rng.choice(names)),))


def free_places(stickers: Sequence[Sticker]) -> tuple[str, ...]:
    """Places where a small sticker would overlap none of `stickers`."""
    if any(sticker.size > SMALL for sticker in stickers):
        return ()
    taken = [PLACES[sticker.place] for sticker in stickers]
    return tuple(
        name
        for name, (row, column) in PLACES.items()
        if all(abs(row - other_row) + abs(column - other_column) >= 2 for other_row, other_column in taken)
    )


def jitter(rng: np.random.Generator) -> int:
    """A small shift in pixels, mostly none."""
    return int(rng.choice(2 * JITTER + 1, p=_JITTER_ODDS)) - JITTER


def _stickers(rng: np.random.Generator, count: int, concepts: tuple[str, ...]) -> tuple[Sticker, ...]:
    names = _concepts(rng, count, concepts)
    styles = rng.choice(STYLES, size=count).tolist()
    if rng.random() < _ONE_STYLE_ODDS:
        styles = styles[:1] * count
    if count == 1 and rng.random() < _LONE_LARGE_ODDS:
        return (Sticker(concept=names[0], style=styles[0], size=LARGE, dx=jitter(rng), dy=jitter(rng)),)
    chosen: list[Sticker] = []
    while len(chosen) < count:
        places = free_places(chosen)
        if not places:
            chosen = []
            continue
        name, style = names[len(chosen)], styles[len(chosen)]
        place = str(rng.choice(places))
        chosen.append(Sticker(concept=name, style=style, place=place, dx=jitter(rng), dy=jitter(rng)))
    return tuple(chosen)


def _concepts(rng: np.random.Generator, count: int, names: tuple[str, ...]) -> list[str]:
    chosen: list[str] = rng.choice(names, size=count, replace=False).tolist()
    if count >= 2 and rng.random() < _ALL_SAME_ODDS:
        return chosen[:1] * count
    if count >= 3 and rng.random() < _ONE_TWIN_ODDS:
        chosen[1] = chosen[0]
    return chosen


def _layers(rng: np.random.Generator, concepts: tuple[str, ...]) -> tuple[Sticker, ...]:
    count = int(rng.integers(2, 4))
    names = rng.choice(concepts, size=count, replace=False).tolist()
    style = str(rng.choice(STYLES))
    places = rng.permutation(["bottom left", "bottom right", "top left", "top right"]).tolist()
    back = Sticker(concept=names[0], style=style, size=LARGE)
    return (
        back,
        *(Sticker(concept=name, style=style, place=place) for name, place in zip(names[1:], places, strict=False)),
    )
