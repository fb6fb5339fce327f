"""Cutting a drawing out of a plain background."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dimoo.cutout import cut_out, flood


def drawing(background: tuple[int, int, int]) -> Image.Image:
    """A red ring on a plain background, its edges smooth."""
    large = Image.new("RGB", (512, 512), background)
    pen = ImageDraw.Draw(large)
    pen.ellipse((100, 100, 400, 400), fill=(220, 30, 30))
    pen.ellipse((200, 200, 300, 300), fill=background)
    return large.resize((128, 128), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("background", [(255, 255, 255), (40, 90, 200)])
def test_the_background_goes_and_the_drawing_stays(background: tuple[int, int, int]) -> None:
    noisy = np.asarray(drawing(background)).astype(int) + np.random.default_rng(0).integers(-6, 7, (128, 128, 3))
    rgba = np.asarray(cut_out(Image.fromarray(noisy.clip(0, 255).astype(np.uint8))))
    alpha = rgba[..., 3]
    assert (alpha[:20] == 0).all() and (alpha[:, -20:] == 0).all()
    assert alpha[64, 35] == 255, "the drawing"
    assert alpha[64, 64] == 255, "the hole is not joined to the border"
    edge = (alpha > 0) & (alpha < 255)
    assert 50 < edge.sum() < 1500, "a soft edge"
    solid = edge & (alpha > 60)
    assert np.abs(rgba[solid][:, :3].astype(int) - (220, 30, 30)).mean() < 40, "edges have lost the background's colour"


def test_what_is_not_plain_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="plain"):
        cut_out(Image.fromarray(noise))
    with pytest.raises(ValueError, match="nothing"):
        cut_out(Image.new("RGB", (64, 64), "green"))


def test_flood_reaches_what_is_joined_to_the_border() -> None:
    plan = ["..#....", "..#.###", "###.#.#", "..#.###", "......."]
    open_ = np.array([[cell == "." for cell in row] for row in plan])
    reached = flood(open_)
    assert (reached == open_)[np.arange(5)[:, None] * 7 + np.arange(7) != 2 * 7 + 5].all()
    assert not reached[2, 5]
