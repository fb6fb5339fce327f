"""Scenes: reproducible, visible, never overlapping, and never in training what is held out."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimoo.data.stickers import held_out
from dimoo.data.stickers.catalogue import CORE, STYLES, Catalogue
from dimoo.data.stickers.pictures import box
from dimoo.data.stickers.scenes import (
    LARGE,
    Background,
    Scene,
    Sticker,
    free_places,
    is_held_out,
    is_visible,
    sample_scene,
)

SEEDS = st.integers(0, 2**40)


@given(SEEDS, st.sampled_from(["train", "eval"]))
def test_a_seed_gives_one_visible_scene_without_overlap(seed, split):
    scene = sample_scene(seed, split)
    assert scene == sample_scene(seed, split)
    assert len(scene.stickers) <= 4
    assert is_visible(scene, Catalogue.load())
    for a, b in combinations(scene.stickers, 2):
        (top_a, left_a, size), (top_b, left_b, _) = box(a), box(b)
        shared = max(0, size - abs(top_a - top_b)) * max(0, size - abs(left_a - left_b))
        assert shared <= 12 * 12


def test_training_never_draws_what_is_held_out_and_evaluation_does():
    train = [sample_scene(seed) for seed in range(2500)]
    assert not any(is_held_out(scene) for scene in train)
    assert not any(is_held_out(sample_scene(seed, layered=True)) for seed in range(300))
    seen = {sticker.cell for scene in train for sticker in scene.stickers}
    assert seen == {(name, style) for name in CORE for style in STYLES} - held_out.CELLS
    evaluation = [sample_scene(seed, "eval") for seed in range(400)]
    share = sum(is_held_out(scene) for scene in evaluation) / len(evaluation)
    assert 0.4 < share < 0.6


def test_the_committed_lists_are_those_of_the_lot():
    lots = held_out.draw_lots()
    assert dict(held_out.CELLS) == lots["cells"]
    assert frozenset((a, b) for a, seconds in lots["pairs"].items() for b in seconds) == held_out.PAIRS
    assert len(held_out.CELLS) == round(0.05 * 72 * 4)
    assert len(held_out.PAIRS) == round(0.10 * 72 * 71)
    assert len({style for _, style in held_out.CELLS}) == len(STYLES)


def test_streams_of_training_and_evaluation_differ():
    assert sum(sample_scene(seed) == sample_scene(seed, "eval") for seed in range(100)) <= 2


def test_counts_are_spread_as_meant():
    counts = Counter(len(sample_scene(seed).stickers) for seed in range(2000))
    assert 0.32 < counts[1] / 2000 < 0.42
    assert 0.10 < counts[4] / 2000 < 0.18
    assert len(sample_scene(3, count=4).stickers) == 4


def test_layered_scenes_have_small_ones_in_front_of_a_large_one():
    scene = sample_scene(1, layered=True)
    assert scene.stickers[0].size == LARGE
    assert all(sticker.size < LARGE for sticker in scene.stickers[1:])


def test_pairs_go_left_to_right_or_top_to_bottom():
    background = Background()

    def pairs(one: str, other: str) -> set[tuple[str, str]]:
        fox = Sticker(concept="fox", style="flat", place=one)
        owl = Sticker(concept="owl", style="flat", place=other)
        scenes = [Scene(background=background, stickers=order) for order in ((fox, owl), (owl, fox))]
        assert scenes[0].pairs == scenes[1].pairs
        return set(scenes[0].pairs)

    assert pairs("left", "right") == pairs("top", "bottom") == {("fox", "owl")}
    assert pairs("bottom left", "right") == {("fox", "owl")}
    assert pairs("left", "top") == {("owl", "fox")}


def test_free_places_keep_clear():
    assert free_places([Sticker(concept="fox", style="flat", size=LARGE)]) == ()
    beside = free_places([Sticker(concept="fox", style="flat", place="centre")])
    assert set(beside) == {"top left", "top right", "bottom left", "bottom right"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Background(kind="striped"), "background kind 'striped'"),
        (lambda: Background(kind="two-tone", colours=("blue",)), "a two-tone background cannot have"),
        (lambda: Background(colours=("beige",)), "unknown background colours"),
        (lambda: Sticker(concept="fox", style="flat", place="north"), "unknown place 'north'"),
        (lambda: Sticker(concept="fox", style="oil"), "unknown style 'oil'"),
        (lambda: Sticker(concept="fox", style="flat", dx=3), "jitter"),
        (lambda: sample_scene(0, "test"), "unknown split 'test'"),
        (lambda: sample_scene(0, count=6), "0 to 4 stickers, not 6"),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
