"""What must be true of a picture, as data that a judge can check against what it sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from dimoo.data.stickers.scenes import Background, Scene, Sticker


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A sticker that must be there; an empty style or place is left open."""

    concept: str
    style: str = ""
    place: str = ""

    def fits(self, sticker: Sticker) -> bool:
        return (
            self.concept == sticker.concept and self.style in ("", sticker.style) and self.place in ("", sticker.place)
        )


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Exactly these things and no others; a background, unless it is left open; and a relation (i, words, j) in which
    things[i] must stand to things[j], such as (0, "to the left of", 1)."""

    things: tuple[Thing, ...]
    background: Background | None = None
    relation: tuple[int, str, int] | None = None

    def holds(self, stickers: Sequence[Sticker], background: Background) -> bool:
        """Whether everything expected is true of what was found."""
        if self.background not in (None, background) or len(stickers) != len(self.things):
            return False
        return any(self._matches(order) for order in permutations(stickers))

    def _matches(self, order: Sequence[Sticker]) -> bool:
        if not all(thing.fits(sticker) for thing, sticker in zip(self.things, order, strict=True)):
            return False
        return self.relation is None or stands(order[self.relation[0]], self.relation[1], order[self.relation[2]])


def stands(a: Sticker, relation: str, b: Sticker) -> bool:
    """Whether `a` stands to `b` in the relation, by rows and columns of the lattice."""
    return {
        "to the left of": a.column < b.column,
        "to the right of": a.column > b.column,
        "above": a.row < b.row,
        "below": a.row > b.row,
    }[relation]


def expect(scene: Scene, *, placeless: Sequence[Sticker] = ()) -> Expectation:
    """The expectation that everything is as in a scene, but for the places of the `placeless` stickers."""
    return Expectation(
        things=tuple(
            Thing(concept=s.concept, style=s.style, place="" if s in placeless else s.place) for s in scene.in_order
        ),
        background=scene.background,
    )
