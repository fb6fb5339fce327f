"""Edits: what is asked happens, nothing else does, and training holds back what is held out."""

import numpy as np
import pytest

from dimoo.data.stickers.catalogue import CORE, Catalogue
from dimoo.data.stickers.edits import EDITS, edit, sample_edit, the
from dimoo.data.stickers.scenes import LARGE, Background, Scene, Sticker, is_held_out, is_visible

FOX = Sticker(concept="fox", style="flat", place="left", dx=1)
OWL = Sticker(concept="owl", style="flat", place="right")
SCENE = Scene(background=Background(colours=("blue",)), stickers=(FOX, OWL))


@pytest.mark.parametrize("name", EDITS)
def test_edits_change_the_scene_and_meet_their_expectation(name):
    rng = np.random.default_rng(1)
    for _ in range(60):
        made = sample_edit(name, rng)
        assert made.before != made.after and len(made.after.stickers) <= 4
        assert made.expectation.holds(made.after.stickers, made.after.background)
        assert not made.expectation.holds(made.before.stickers, made.before.background)
        assert not is_held_out(made.after) and is_visible(made.after, Catalogue.load())
        assert made.instruction == made.instruction.lower() and made.kind == EDITS[name]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("add", lambda a, b: set(a.stickers) < set(b.stickers)),
        ("remove", lambda a, b: set(b.stickers) < set(a.stickers)),
        ("replace", lambda a, b: len(set(a.stickers) - set(b.stickers)) == 1 and a.background == b.background),
        ("background", lambda a, b: a.stickers == b.stickers),
        ("style", lambda a, b: [s.concept for s in a.stickers] == [s.concept for s in b.stickers]),
        ("move", lambda a, b: len(set(a.stickers) & set(b.stickers)) == len(a.stickers) - 1),
        ("swap", lambda a, b: {s.place for s in a.stickers} == {s.place for s in b.stickers}),
        ("recount", lambda a, b: {s.cell for s in a.stickers} == {s.cell for s in b.stickers}),
        ("recolour", lambda a, b: len(set(a.stickers) - set(b.stickers)) == 1),
    ],
)
def test_nothing_else_changes(name, kept):
    rng = np.random.default_rng(2)
    for _ in range(40):
        made = sample_edit(name, rng, split="eval")
        assert kept(made.before, made.after)
        assert name == "background" or made.before.background == made.after.background


def test_recolouring_keeps_the_noun():
    made = sample_edit("recolour", np.random.default_rng(0))
    nouns = [sorted(CORE[s.concept].noun for s in scene.stickers) for scene in (made.before, made.after)]
    assert nouns[0] == nouns[1]


def test_what_is_impossible_is_none():
    empty = Scene(background=Background())
    rng = np.random.default_rng(0)
    assert all(edit(empty, name, rng) is None for name in ("remove", "replace", "style", "move", "swap", "recolour"))
    large = Scene(background=Background(), stickers=(Sticker(concept="fox", style="flat", size=LARGE),))
    assert edit(large, "add", rng) is None and edit(large, "move", rng) is None
    with pytest.raises(ValueError, match="unknown edit 'explode'"):
        edit(SCENE, "explode", rng)


def test_the_words_for_one_among_many():
    twin = Sticker(concept="fox", style="noto", place="right")
    same = Sticker(concept="fox", style="flat", place="right")
    assert the(FOX, SCENE) == "the fox"
    assert the(FOX, Scene(background=SCENE.background, stickers=(FOX, twin))) == "the flat fox"
    assert the(FOX, Scene(background=SCENE.background, stickers=(FOX, same))) == "the fox on the left"
