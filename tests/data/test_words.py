"""Words: regular, lower-case, and true of the scene."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimoo.data.stickers.catalogue import CORE
from dimoo.data.stickers.scenes import LARGE, Background, Scene, Sticker, sample_scene
from dimoo.data.stickers.words import FULL, Wording, article, caption, counted, describe, join, plural, relation_of

FOX = Sticker(concept="fox", style="flat", place="left")
OWL = Sticker(concept="owl", style="noto", place="right")
STAR = Sticker(concept="star", style="flat", place="top")
BLUE = Background(colours=("blue",))


def _scene(*stickers: Sticker, background: Background = BLUE) -> Scene:
    return Scene(background=background, stickers=stickers)


@pytest.mark.parametrize(
    ("scene", "wording", "words"),
    [
        (_scene(), FULL, "a blue background"),
        (_scene(FOX), Wording(), "a fox"),
        (_scene(FOX), Wording(styles=True, background=True), "a flat fox on a blue background"),
        (_scene(FOX), Wording(colours=True, one=True), "one orange fox"),
        (_scene(OWL, FOX), Wording(relation=True), "a fox to the left of an owl"),
        (_scene(OWL, FOX), Wording(relation=True, flipped=True, styles=True), "a noto owl to the right of a flat fox"),
        (_scene(FOX, OWL), FULL, "a flat fox on the left and a noto owl on the right, on a blue background"),
        (_scene(FOX, STAR), Wording(styles=True), "a star and a fox in flat style"),
        (_scene(FOX, STAR, OWL), Wording(), "a star, a fox and an owl"),
        (_scene(FOX, Sticker(concept="fox", style="3d", place="right")), Wording(), "two foxes"),
        (_scene(Sticker(concept="fox", style="3d", size=LARGE)), Wording(size=True), "a big fox"),
        (
            _scene(FOX, background=Background(kind="two-tone", colours=("orange", "pink"))),
            Wording(background=True),
            "a fox on an orange over pink background",
        ),
        (
            _scene(FOX, background=Background(kind="gradient", colours=("teal",))),
            Wording(background=True),
            "a fox on a teal to white background",
        ),
    ],
)
def test_describes(scene, wording, words):
    assert describe(scene, wording) == words


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_captions_are_plain_and_name_only_what_is_there(seed, words_seed):
    scene = sample_scene(seed)
    words = caption(scene, np.random.default_rng(words_seed))
    assert words == words.lower() and words == words.strip() and "  " not in words
    if words.isascii():
        assert re.fullmatch(r"[a-z0-9 ,]+", words)
        for name in CORE:
            if re.search(rf"\b({name}|{plural(name)})\b", words):
                assert any(sticker.concept == name for sticker in scene.stickers)


def test_the_same_scene_has_many_captions_and_some_in_chinese():
    scene = _scene(FOX)
    captions = [caption(scene, np.random.default_rng(seed)) for seed in range(300)]
    assert len(set(captions)) > 25
    assert 0.05 < np.mean(["狐狸" in words for words in captions]) < 0.16


def test_relations_are_told_only_where_clear():
    diagonal = _scene(STAR, Sticker(concept="owl", style="flat", place="right"))
    assert relation_of(diagonal) is None
    assert relation_of(_scene(OWL, FOX)) == "to the left of"
    assert relation_of(_scene(STAR, Sticker(concept="owl", style="flat", place="bottom left"))) == "above"
    assert relation_of(_scene(FOX, FOX)) is None


def test_small_words():
    assert article("owl") == "an owl" and article("fox") == "a fox"
    assert [plural(word) for word in ("fox", "key", "strawberry", "red circle")] == [
        "foxes",
        "keys",
        "strawberries",
        "red circles",
    ]
    assert counted("butterfly", 4) == "four butterflies" and counted("owl", 1, one=True) == "one owl"
    assert join(["a"]) == "a" and join(["a", "b", "c"]) == "a, b and c" and join([]) == ""
