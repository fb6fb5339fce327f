"""Films and previews: what is shown, and that it comes from the run itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dimoo
from dimoo.films import CodeColours, Moment, frames, hatch, save_animation, save_strip
from dimoo.pipeline import Pipeline
from dimoo.tasks.paint import Inpaint
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tokenizers.resize import to_pixels


@pytest.fixture(scope="module")
def pipe(random_checkpoint: Path) -> Pipeline:
    return dimoo.load(random_checkpoint)


@pytest.fixture(scope="module")
def colours(pipe: Pipeline) -> CodeColours:
    return CodeColours.fit(pipe.tools.image)


def test_frames_show_the_picture_where_it_is_fixed(pipe: Pipeline, colours: CodeColours) -> None:
    steps = list(pipe.stream(TextToImage(prompt="a fox", height=64, width=96)))
    result = steps[-1].result
    assert result is not None and result.picture is not None
    moments = [Moment.of(step.step, 0) for step in steps]
    film = frames(moments, result.picture, colours)
    final = to_pixels(result.picture)
    assert [int((moment.codes < 0).sum()) for moment in moments] == [step.masked for step in steps]
    for frame, moment in zip(film, moments, strict=True):
        masked = np.kron((moment.codes < 0).numpy(), np.ones((16, 16), bool))
        assert (frame.fixed[~masked] == final[~masked]).all() and (frame.guess[~masked] == final[~masked]).all()
        grey = frame.fixed[masked]
        assert (grey.max(axis=-1, initial=0) == grey.min(axis=-1, initial=255)).all() or not masked.any()
    assert (film[-1].fixed == final).all()
    assert all(bool((moment.guess >= 0).all()) for moment in moments)


def test_kept_cells_of_a_painting_stay(pipe: Pipeline, colours: CodeColours) -> None:
    picture = Image.new("RGB", (64, 64), "blue")
    steps = list(pipe.stream(Inpaint(picture=picture, prompt="a", box=(0, 0, 32, 32))))
    assert int((Moment.of(steps[0].step, 0).codes < 0).sum()) < 4


def test_code_colours_are_near_what_is_decoded(pipe: Pipeline, colours: CodeColours) -> None:
    """On flat patches the table beats the best single colour; it would not if codes and rows were mixed up."""
    tokenizer = pipe.tools.image
    patches = torch.randint(tokenizer.codes, (6, 6), generator=torch.Generator().manual_seed(9))
    codes = patches.repeat_interleave(2, 0).repeat_interleave(2, 1)
    truth = tokenizer.decode(codes).reshape(12, 16, 12, 16, 3).mean(axis=(1, 3))
    painted = colours.paint(codes, 1).astype(float)
    single = truth.mean(axis=(0, 1))
    assert np.abs(painted - truth).mean() < np.abs(single - truth).mean()


def test_hatching_is_grey_and_in_lines() -> None:
    pixels = np.full((16, 16, 3), (200, 0, 0), np.uint8)
    masked = np.zeros((16, 16), bool)
    masked[:8] = True
    out = hatch(pixels, masked)
    assert (out[8:] == pixels[8:]).all()
    assert len(np.unique(out[:8])) == 2


def test_files(pipe: Pipeline, colours: CodeColours, tmp_path: Path) -> None:
    steps = list(pipe.stream(TextToImage(prompt="a fox")))
    result = steps[-1].result
    assert result is not None and result.picture is not None
    film = frames([Moment.of(step.step, 0) for step in steps], result.picture, colours)
    save_strip(film, tmp_path / "strip.png", columns=3, gap=2)
    assert Image.open(tmp_path / "strip.png").size == (3 * 66 + 2, 2 * 66 + 2)
    save_animation(film, tmp_path / "film.webp")
    with Image.open(tmp_path / "film.webp") as animation:
        assert animation.n_frames == len(film) and animation.size == (64, 64)
