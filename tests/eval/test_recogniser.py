"""The judge's eyes: backgrounds by statistics, the network's windows on the lattice, weights that come back."""

import ast
import inspect
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from dimoo.data.stickers import CORE, STYLES, Background, Scene, Sticker, draw
from dimoo.data.stickers.scenes import LARGE, SMALL, every_drawing, sample_scene
from dimoo.eval import recogniser
from dimoo.eval.recogniser import SHIPPED, SIZES, PlaceNet, Recogniser, background
from dimoo.train import recogniser as trainer

CONCEPTS = tuple(CORE)


def test_measuring_imports_neither_model_nor_renderer():
    tree = ast.parse(Path(inspect.getfile(recogniser)).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    ours = {name for name in modules if name.startswith("dimoo")}
    assert ours == {"dimoo.data.stickers.colours", "dimoo.data.stickers.scenes"}


def test_background_is_right_on_real_scenes():
    scenes = [sample_scene(seed, "eval") for seed in range(40)]
    assert [background(draw(scene)) for scene in scenes] == [scene.background for scene in scenes]


@pytest.mark.parametrize(
    "kind, colours", [("plain", ("teal",)), ("two-tone", ("white", "pink")), ("gradient", ("blue",))]
)
def test_background_survives_noise(kind, colours):
    drawn = draw(Scene(background=Background(kind=kind, colours=colours))).astype(float)
    noisy = drawn + np.random.default_rng(0).normal(0, 6, drawn.shape)
    assert background(noisy.clip(0, 255).astype(np.uint8)) == Background(kind=kind, colours=colours)


def test_every_place_has_a_window_of_its_own():
    torch.manual_seed(0)
    net = PlaceNet(concepts=3, styles=2).eval()
    blank = torch.full((1, 3, 128, 128), 0.5)
    with torch.no_grad():
        empty = net(blank).sizes
        for place, (row, column) in enumerate((r, c) for r in range(3) for c in range(3)):
            marked = blank.clone()
            top, left = 40 * row + 16, 40 * column + 16
            marked[:, :, top : top + 16, left : left + 16] = 1.0
            change = (net(marked).sizes - empty).abs().sum(-1)[0]
            assert int(change.argmax()) == place


def test_labels_follow_the_scene():
    scene = Scene(
        background=Background(),
        stickers=(
            Sticker(concept="fox", style="noto", place="bottom left", size=SMALL),
            Sticker(concept="bee", style="flat", size=LARGE),
        ),
    )
    found = trainer.label(scene, concepts=CONCEPTS, styles=STYLES)
    assert found[6].tolist() == [SIZES.index(SMALL), CONCEPTS.index("fox"), STYLES.index("noto")]
    assert found[4].tolist() == [SIZES.index(LARGE), CONCEPTS.index("bee"), STYLES.index("flat")]
    assert found.sum() == found[[4, 6]].sum()


def test_training_learns_saves_and_loads(tmp_path):
    names = {"concepts": CONCEPTS, "styles": STYLES}
    pool = trainer.make_pool(3, draw, lambda pictures: pictures // 2, **names)
    assert np.array_equal(pool.pictures[3:], pool.pictures[:3] // 2)
    trained = trainer.train_recogniser(trainer.RecogniserTraining(steps=2, batch=4), pool, **names)
    trained.net.eval()
    trained.save(tmp_path / "judge.safetensors")
    loaded = Recogniser.load(tmp_path / "judge.safetensors")
    picture = draw(sample_scene(0))
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        ours, theirs = trained.net(pixels), loaded.net(pixels)
    assert torch.allclose(ours.concepts, theirs.concepts, atol=0.05)
    assert loaded.concepts == CONCEPTS
    stickers, ground = loaded.scene(picture)
    assert isinstance(ground, Background)
    assert len(stickers) == len(loaded.recognise(picture))


def test_damage_keeps_pixels_in_range_and_is_drawn_from_the_generator():
    pixels = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    first, second = (
        trainer.damage(pixels, shift=2, share=0.5, random=torch.Generator().manual_seed(2)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert 0 <= float(first.min()) and float(first.max()) <= 1


def test_judge_refuses_other_sizes():
    net = PlaceNet(concepts=2, styles=2)
    with pytest.raises(ValueError, match="128x128x3"):
        Recogniser(net, concepts="ab", styles="cd").recognise(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.skipif(not SHIPPED.exists(), reason="the judge's weights are not there")
def test_shipped_judge_names_real_stickers():
    scenes = trainer.draw_scenes(3, 40, split="eval")
    accuracy = trainer.measure_accuracy(Recogniser.load(), np.stack([draw(s) for s in scenes]), scenes)
    assert accuracy.stickers > 0.97


@pytest.mark.skipif(not SHIPPED.exists(), reason="the judge's weights are not there")
def test_shipped_judge_knows_every_drawing_small_and_large():
    scenes = every_drawing(np.random.default_rng(1))
    assert {(s.stickers[0].cell, s.stickers[0].size) for s in scenes} == set(
        product(product(CORE, STYLES), (SMALL, LARGE))
    )
    accuracy = trainer.measure_accuracy(Recogniser.load(), np.stack([draw(s) for s in scenes]), scenes)
    assert accuracy.stickers > 0.99  # Broken to try it: the judge before had .977
