"""The shipped catalogue: complete, visible, aligned where it claims to be, and small."""

import numpy as np
import pytest

from dimoo.data.stickers.catalogue import CORE, DRAWING_SIZE, SHIPPED, STYLES, Catalogue
from dimoo.data.stickers.colours import BACKGROUNDS
from dimoo.data.stickers.measure import dominant_colour, hiding_backgrounds

CATALOGUE = Catalogue.load()


def test_has_every_concept_in_every_style():
    assert len(CORE) == 72
    assert sum(bool(concept.colour) for concept in CORE.values()) == 23
    assert set(CATALOGUE.drawings) == {(name, style) for name in CORE for style in STYLES}
    assert {drawing.shape for drawing in CATALOGUE.drawings.values()} == {(DRAWING_SIZE, DRAWING_SIZE, 4)}


def test_concepts_have_one_code_and_one_chinese_name_each():
    assert len({concept.code for concept in CORE.values()}) == len(CORE)
    assert len({facts.chinese for facts in CATALOGUE.facts.values()}) == len(CORE)


def test_ships_in_two_megabytes():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2_000_000


def test_drawings_fill_their_square_but_for_a_margin():
    for drawing in CATALOGUE.drawings.values():
        rows, columns = np.nonzero(drawing[..., 3] > 128)
        assert min(rows.min(), columns.min()) >= 3
        assert max(np.ptp(rows), np.ptp(columns)) >= 66


def test_flat_and_3d_are_aligned():
    overlaps = []
    for name in CORE:
        a, b = (CATALOGUE.drawings[name, style][..., 3] > 128 for style in ("flat", "3d"))
        overlaps.append((a & b).sum() / (a | b).sum())
    assert np.median(overlaps) > 0.93


def test_colours_and_hiding_backgrounds_are_what_the_pixels_say():
    for (name, style), drawing in list(CATALOGUE.drawings.items())[::7]:
        assert CATALOGUE.facts[name].colours[style] == dominant_colour(drawing)
        assert CATALOGUE.facts[name].hidden_on[style] == set(hiding_backgrounds(drawing))


def test_coloured_concepts_are_of_their_colour():
    named = [(CORE[name].colour, CATALOGUE.facts[name].colours[s]) for name in CORE for s in STYLES]
    told = [given == measured for given, measured in named if given and measured]
    assert np.mean(told) > 0.96
    assert CATALOGUE.colour("red heart", "3d") == "red"
    assert CATALOGUE.colour("octopus", "twemoji") == "purple"


def test_every_drawing_shows_on_most_backgrounds():
    assert all(len(hidden) <= 4 for facts in CATALOGUE.facts.values() for hidden in facts.hidden_on.values())
    assert not CATALOGUE.shows_on("koala", "flat", ("blue", "grey"))
    assert CATALOGUE.shows_on("koala", "flat", ("blue", "yellow"))


def test_backgrounds_are_far_apart():
    colours = np.array(list(BACKGROUNDS.values()), float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert distances[~np.eye(len(colours), dtype=bool)].min() > 30


def test_drawing_is_resized_once_and_premultiplied():
    inked, clear = CATALOGUE.drawing("fox", "noto", size=48)
    assert inked.shape == (48, 48, 3) and clear.shape == (48, 48, 1)
    assert (inked <= (255 - clear) * 255).all()
    assert CATALOGUE.drawing("fox", "noto", size=48)[0] is inked


def test_says_what_is_unknown(tmp_path):
    with pytest.raises(ValueError, match="no drawing of 'unicorn'"):
        CATALOGUE.drawing("unicorn", "flat", size=48)
    with pytest.raises(ValueError, match="no sticker catalogue in"):
        Catalogue.load(tmp_path)
