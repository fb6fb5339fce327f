"""Edits: a scene, an instruction, the scene after it.

In: a scene (or none: then one is drawn by lot), the name of an edit and a generator. Out: an `Edit`, or None where the
scene does not allow it. What an edit does not touch stays exactly where it was.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from dimoo.data.stickers.catalogue import CORE, STYLES, Catalogue
from dimoo.data.stickers.expectation import Expectation, expect
from dimoo.data.stickers.scenes import (
    LARGE,
    SMALL,
    Scene,
    Split,
    Sticker,
    free_places,
    is_held_out,
    is_visible,
    sample_background,
    sample_scene,
)
from dimoo.data.stickers.words import WHERE, Wording, article, background_words, counted, describe, plural

# name: kind of `records.Record`
EDITS = {
    "add": "edit_add",
    "remove": "edit_remove",
    "replace": "edit_replace",
    "background": "edit_background",
    "style": "edit_text_transfer",
    "move": "edit",
    "swap": "edit",
    "recount": "edit",
    "recolour": "edit",
}
_TRIES = 20


@dataclass(frozen=True, kw_only=True)
class Edit:
    """`instruction` turns `before` into `after`; `expectation` is what must be true then (places may be open).
    `unsaid` is what only the picture tells and the drawing needs: the style of what comes anew, or what there is to
    redraw in another style ("" where nothing is, or words say it)."""

    name: str
    instruction: str
    before: Scene
    after: Scene
    expectation: Expectation
    unsaid: str = ""

    @property
    def kind(self) -> str:
        return EDITS[self.name]

    @property
    def held_out(self) -> bool:
        return is_held_out(self.before) or is_held_out(self.after)


def edit(
    scene: Scene, name: str, rng: np.random.Generator, *, split: Split = "train", catalogue: Catalogue | None = None
) -> Edit | None:
    """The named edit of a scene, drawn by lot; None where none is possible. In "train" nothing held out results."""
    if name not in EDITS:
        raise ValueError(f"unknown edit {name!r}; choose from {', '.join(EDITS)}")
    catalogue = catalogue or Catalogue.load()
    for _ in range(_TRIES):
        proposal = _MAKERS[name](scene, rng)
        if proposal is None:
            continue
        after = proposal.after
        admissible = after != scene and is_visible(after, catalogue)
        if admissible and not (split == "train" and is_held_out(after)):
            return Edit(
                name=name,
                instruction=proposal.instruction,
                before=scene,
                after=after,
                expectation=expect(after, placeless=proposal.placeless),
                unsaid=proposal.unsaid,
            )
    return None


def sample_edit(
    name: str, rng: np.random.Generator, *, split: Split = "train", catalogue: Catalogue | None = None
) -> Edit:
    """The named edit of a scene drawn by lot."""
    while True:
        scene = sample_scene(rng, split, catalogue=catalogue)
        made = edit(scene, name, rng, split=split, catalogue=catalogue)
        if made is not None:
            return made


def the(sticker: Sticker, scene: Scene) -> str | None:
    """Words that mean this sticker and no other: "the fox", "the flat fox", "the fox in the top left"."""
    rivals = [other for other in scene.stickers if other is not sticker and other.concept == sticker.concept]
    if not rivals:
        return f"the {sticker.concept}"
    if all(other.style != sticker.style for other in rivals):
        return f"the {sticker.style} {sticker.concept}"
    return f"the {sticker.concept} {WHERE[sticker.place]}"


@dataclass(frozen=True)
class _Proposal:
    """An instruction, the scene after it, the stickers whose places the instruction leaves open, and what it leaves
    unsaid (`Edit`)."""

    instruction: str
    after: Scene
    placeless: tuple[Sticker, ...] = ()
    unsaid: str = ""


def _add(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    places = free_places(scene.stickers)
    if len(scene.stickers) == 4 or not places:
        return None
    style, named = _style_like(scene, rng)
    new = Sticker(concept=_any(rng, CORE), style=style, place=_any(rng, places))
    what = article(f"{style} {new.concept}" if named else new.concept)
    after = replace(scene, stickers=(*scene.stickers, new))
    unsaid = "" if named else style
    if rng.random() < 0.2:
        return _Proposal(f"add {what}", after, placeless=(new,), unsaid=unsaid)
    return _Proposal(f"add {what} {WHERE[new.place]}", after, unsaid=unsaid)


def _remove(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    if not scene.stickers:
        return None
    gone = scene.stickers[rng.integers(len(scene.stickers))]
    alike = [other for other in scene.stickers if other.concept == gone.concept]
    if len(alike) > 1 and rng.random() < 0.3:
        rest = tuple(other for other in scene.stickers if other.concept != gone.concept)
        return _Proposal(f"remove all {plural(gone.concept)}", replace(scene, stickers=rest))
    rest = tuple(other for other in scene.stickers if other is not gone)
    verb = _any(rng, ("remove", "take away"))
    return _Proposal(f"{verb} {the(gone, scene)}", replace(scene, stickers=rest))


def _replace(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    if not scene.stickers:
        return None
    old = scene.stickers[rng.integers(len(scene.stickers))]
    concept = _any(rng, CORE)
    if concept in {sticker.concept for sticker in scene.stickers}:
        return None
    after = _with(scene, old, replace(old, concept=concept))
    if rng.random() < 0.5:
        return _Proposal(f"replace {the(old, scene)} with {article(concept)}", after, unsaid=old.style)
    return _Proposal(f"turn {the(old, scene)} into {article(concept)}", after, unsaid=old.style)


def _background(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    background = sample_background(rng)
    verb = _any(rng, ("make the background", "change the background to"))
    return _Proposal(f"{verb} {background_words(background)}", replace(scene, background=background))


def _style(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    if not scene.stickers:
        return None
    style = _any(rng, STYLES)
    words = _any(rng, (f"redraw this in {style} style", f"turn this into {style} style", f"make this {style}"))
    after = replace(scene, stickers=tuple(replace(sticker, style=style) for sticker in scene.stickers))
    return _Proposal(words, after, unsaid=describe(scene, Wording()))


def _move(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    if not scene.stickers:
        return None
    moved = scene.stickers[rng.integers(len(scene.stickers))]
    places = free_places([other for other in scene.stickers if other is not moved])
    if moved.size != SMALL or not places:
        return None
    new = replace(moved, place=_any(rng, places))
    return _Proposal(f"move {the(moved, scene)} to the {new.place}", _with(scene, moved, new))


def _swap(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    if len({sticker.concept for sticker in scene.stickers}) < 2 or any(s.size == LARGE for s in scene.stickers):
        return None
    a, b = (scene.stickers[index] for index in rng.choice(len(scene.stickers), size=2, replace=False))
    if a.concept == b.concept:
        return None
    swapped = {a: replace(b, place=a.place), b: replace(a, place=b.place)}
    after = replace(scene, stickers=tuple(swapped.get(sticker, sticker) for sticker in scene.stickers))
    return _Proposal(f"swap {the(a, scene)} and {the(b, scene)}", after)


def _recount(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    cells = {sticker.cell for sticker in scene.stickers}
    if len(cells) != 1 or scene.stickers[0].size == LARGE:
        return None
    count = int(rng.integers(1, 5))
    if count == len(scene.stickers):
        return None
    stickers = list(scene.stickers)
    while len(stickers) > count:
        stickers.pop(int(rng.integers(len(stickers))))
    while len(stickers) < count:
        places = free_places(stickers)
        if not places:
            return None
        stickers.append(replace(stickers[0], place=_any(rng, places), dx=0, dy=0))
    words = counted(scene.stickers[0].concept, count, one=True)
    after, unsaid = replace(scene, stickers=tuple(stickers)), stickers[0].style if count > len(scene.stickers) else ""
    return _Proposal(f"make it {words}", after, placeless=tuple(stickers), unsaid=unsaid)


def _recolour(scene: Scene, rng: np.random.Generator) -> _Proposal | None:
    coloured = [sticker for sticker in scene.stickers if CORE[sticker.concept].colour]
    if not coloured:
        return None
    old = coloured[rng.integers(len(coloured))]
    noun = CORE[old.concept].noun
    present = {sticker.concept for sticker in scene.stickers}
    others = [name for name, concept in CORE.items() if concept.noun == noun and name not in present]
    if not others:
        return None
    concept = _any(rng, others)
    after = _with(scene, old, replace(old, concept=concept))
    return _Proposal(f"make {the(old, scene)} {CORE[concept].colour}", after, unsaid=old.style)


_MAKERS: dict[str, Callable[[Scene, np.random.Generator], _Proposal | None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "background": _background,
    "style": _style,
    "move": _move,
    "swap": _swap,
    "recount": _recount,
    "recolour": _recolour,
}
assert _MAKERS.keys() == EDITS.keys(), "an edit has a kind and a maker"


def _style_like(scene: Scene, rng: np.random.Generator) -> tuple[str, bool]:
    """The style of something new and whether to name it: what all others share goes without saying."""
    styles = {sticker.style for sticker in scene.stickers}
    if len(styles) == 1 and rng.random() < 0.5:
        return styles.pop(), False
    return _any(rng, STYLES), True


def _with(scene: Scene, old: Sticker, new: Sticker) -> Scene:
    return replace(scene, stickers=tuple(new if sticker is old else sticker for sticker in scene.stickers))


def _any(rng: np.random.Generator, choices: Iterable[str]) -> str:
    return str(rng.choice(list(choices)))
