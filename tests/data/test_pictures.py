"""Drawing: exact where it must be, equal to a plain compositor, and the control maps made from it."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from dimoo.data.stickers import canny, depth, draw, picture, soft_edges
from dimoo.data.stickers.catalogue import Catalogue
from dimoo.data.stickers.colours import BACKGROUNDS
from dimoo.data.stickers.pictures import SIDES, box, silhouette
from dimoo.data.stickers.scenes import LARGE, Background, Scene, Sticker, sample_scene

CATALOGUE = Catalogue.load()


def _composited(scene: Scene) -> np.ndarray:
    """The slow twin: Pillow's compositor on a drawing resized by Pillow."""
    page = Image.fromarray(draw(Scene(background=scene.background))).convert("RGBA")
    for sticker in scene.stickers:
        top, left, size = box(sticker)
        image = Image.fromarray(CATALOGUE.drawings[sticker.cell]).resize((size, size), Image.Resampling.LANCZOS)
        layer = Image.new("RGBA", page.size)
        layer.paste(image, (left, top))
        page = Image.alpha_composite(page, layer)
    return np.asarray(page.convert("RGB"))


@given(st.integers(0, 2**40), st.booleans())
@settings(max_examples=40)
def test_equals_a_plain_compositor(seed, layered):
    scene = sample_scene(seed, layered=layered)
    difference = draw(scene).astype(int) - _composited(scene)
    assert abs(difference).max() <= 2


@given(st.integers(0, 2**40), st.sampled_from(SIDES), st.sampled_from(SIDES))
@settings(max_examples=40)
def test_draws_at_other_sizes(seed, height, width):
    assume(max(height, width) <= 2 * min(height, width))
    scene = sample_scene(seed)
    drawn = draw(scene, height=height, width=width)
    assert drawn.shape == (height, width, 3) and drawn.dtype == np.uint8
    if scene.stickers:
        assert (drawn != draw(Scene(background=scene.background), height=height, width=width)).any()


@pytest.mark.parametrize(("height", "width"), [(64, 144), (100, 128), (48, 64), (272, 256)])
def test_refuses_other_sizes(height, width):
    with pytest.raises(ValueError, match=f"cannot draw {height}x{width}"):
        draw(sample_scene(0), height=height, width=width)


def test_backgrounds_are_their_colours():
    assert (draw(Scene(background=Background(colours=("teal",)))) == BACKGROUNDS["teal"]).all()
    halves = draw(Scene(background=Background(kind="two-tone", colours=("pink", "black"))))
    assert (halves[:64] == BACKGROUNDS["pink"]).all() and (halves[64:] == BACKGROUNDS["black"]).all()
    fading = draw(Scene(background=Background(kind="gradient", colours=("blue",))))
    assert (np.diff(fading[:, 0, 0].astype(int)) >= 0).all() and fading[-1, 0, 0] >= 254


def test_touches_nothing_outside_a_stickers_box():
    background = Background(colours=("blue",))
    sticker = Sticker(concept="fox", style="noto", place="right", dx=1, dy=-1)
    top, left, size = box(sticker)
    assert (top, left, size) == (39, 81, 48)
    drawn = draw(Scene(background=background, stickers=(sticker,)))
    outside = np.ones((128, 128), bool)
    outside[top : top + size, left : left + size] = False
    assert (drawn[outside] == BACKGROUNDS["blue"]).all()
    assert not silhouette(sticker, CATALOGUE)[outside].any()


def test_depth_is_nearer_for_larger_and_for_those_in_front():
    lone = Sticker(concept="fox", style="noto")
    big = Sticker(concept="red heart", style="noto", size=LARGE)
    near = [depth(Scene(background=Background(), stickers=s)) for s in ((lone,), (big,), (big, lone))]
    at_fox = np.nonzero(silhouette(lone, CATALOGUE))
    levels = [int(np.median(picture[at_fox])) for picture in near]
    assert near[0][0, 0, 0] < levels[0] < levels[1] < levels[2]


def test_edge_maps_follow_outlines():
    scene = Scene(background=Background(), stickers=(Sticker(concept="red circle", style="flat"),))
    for edges in (canny(draw(scene)), soft_edges(draw(scene))):
        assert edges.shape == (128, 128, 3) and edges.dtype == np.uint8
        assert edges[:30].max() == 0 and edges[60:68, 60:68].max() == 0
        assert edges[64, 40:48].max() > 150
    assert set(np.unique(canny(draw(scene)))) == {0, 255}


def test_the_stream_is_reproducible_and_varied():
    pictures = [picture(seed) for seed in range(200)]
    assert all((picture(seed) == pictures[seed]).all() for seed in range(0, 200, 20))
    assert {p.shape for p in pictures} == {(128, 128, 3)}
    black_frames = sum((p[0] == 0).all() and (p[-1] == 0).all() for p in pictures)
    assert 5 < black_frames < 60
