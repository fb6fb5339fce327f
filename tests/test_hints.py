"""Hints read a checkpoint's words.json and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dimoo.hints import Known, flat_share, picture_hint, unknown_words, word_hint

WORDS = ["a", "red", "fox", "cherry", "box", "to", "the", "left", "of", "tree", "person's", "t-rex"]


@pytest.fixture
def known(tmp_path: Path) -> Known:
    (tmp_path / "words.json").write_text(json.dumps({"domain": "stickers", "words": WORDS}))
    loaded = Known.load(tmp_path)
    assert loaded is not None
    return loaded


def test_unknown_words_and_near_ones(known: Known) -> None:
    found = unknown_words("A red foxx to the left of a spaceship, two trees; a T-Rex, cherries and boxes", known)
    assert set(found) == {"foxx", "spaceship", "two", "and"}
    assert "fox" in found["foxx"] and found["spaceship"] == []
    line = word_hint("a foxx", known)
    assert line is not None and "foxx" in line and "fox?" in line.replace("fox,", "fox?")
    assert word_hint("the fox's tree", known) is None


def test_no_list_no_hints(tmp_path: Path) -> None:
    assert Known.load(tmp_path) is None
    assert word_hint("xyzzy", None) is None and picture_hint(photograph(), None) is None
    assert picture_hint(photograph(), Known(words=frozenset())) is None


def test_a_broken_list_is_named(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"domain": "a"}'):
        (tmp_path / "words.json").write_text(text)
        with pytest.raises(ValueError, match=r"words\.json"):
            Known.load(tmp_path)


def photograph() -> Image.Image:
    """Texture at every scale, as photographs have."""
    rng = np.random.default_rng(0)
    total = np.zeros((128, 128, 3))
    for side in (4, 8, 16, 32, 64, 128):
        part = Image.fromarray(rng.integers(0, 256, (side, side, 3)).astype(np.uint8))
        total += np.asarray(part.resize((128, 128), Image.Resampling.BICUBIC)) / 6
    return Image.fromarray(total.astype(np.uint8))


def test_photographs_are_told_from_drawings(known: Known) -> None:
    drawing = Image.new("RGB", (256, 256), (90, 160, 220))
    ImageDraw.Draw(drawing).ellipse((40, 40, 200, 200), fill=(250, 200, 40), outline=(0, 0, 0), width=6)
    assert flat_share(drawing) > 0.9 > flat_share(photograph())
    assert picture_hint(drawing, known) is None
    line = picture_hint(photograph(), known)
    assert line is not None and "stickers" in line
