"""Fitting and writing of drawings, with pictures made here (no art is fetched)."""

import numpy as np
from PIL import Image, ImageDraw

from dimoo.data.stickers.build import MARGIN, _fit, beyond_core, write
from dimoo.data.stickers.catalogue import CORE, DRAWING_SIZE, STYLES, Catalogue


def _disc(left: int, top: int, right: int, bottom: int) -> Image.Image:
    image = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(image).ellipse((left, top, right, bottom), fill="red")
    return image


def test_aligned_styles_are_cut_by_one_box_and_others_by_their_own():
    fitted = _fit({"flat": _disc(20, 20, 120, 120), "3d": _disc(20, 20, 220, 120), "noto": _disc(0, 0, 50, 50)})
    ink = {style: np.nonzero(drawing[..., 3] > 128) for style, drawing in fitted.items()}
    assert abs(int(ink["flat"][1].min()) - int(ink["3d"][1].min())) <= 1
    assert np.ptp(ink["flat"][1]) < np.ptp(ink["3d"][1])
    assert abs(np.ptp(ink["noto"][0]) + 1 - (DRAWING_SIZE - 2 * MARGIN)) <= 2


def test_what_is_written_is_what_is_read(tmp_path):
    rng = np.random.default_rng(0)
    drawings = {
        name: {style: np.tile(rng.integers(1, 256, (1, 2, 4), np.uint8), (96, 48, 1)) for style in STYLES}
        for name in list(CORE)[:10]
    }
    entry = {
        "chinese": "x",
        "group": "tool",
        "tags": ["a"],
        "colours": dict.fromkeys(STYLES, ""),
        "hidden_on": {style: ["blue"] for style in STYLES},
    }
    write(tmp_path, drawings, dict.fromkeys(drawings, entry))
    catalogue = Catalogue.load(tmp_path)
    assert list(catalogue.concepts) == list(drawings)
    for name, by_style in drawings.items():
        for style, drawing in by_style.items():
            assert (catalogue.drawings[name, style] == drawing).all()


def test_beyond_the_core_are_new_code_points_under_new_plain_names():
    # Broken to try it: names compared with those of concepts only ("heart" is the noun of six).
    codes = {"goat": "1f410", "fox face": CORE["fox"].code, "cat": "1f408", "heart": "2665", "jack-o-lantern": "1f383"}
    others = beyond_core(codes | {"a very long name": "1", "hot dog": "1f32d"})
    assert {name: (concept.code, concept.colour) for name, concept in others.items()} == {
        "goat": ("1f410", ""),
        "hot dog": ("1f32d", ""),
    }
