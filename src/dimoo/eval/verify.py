"""What a person with new weights runs first (`dimoo verify CHECKPOINT`): is everything there, and does it fit?

In: a checkpoint folder. Out: `Check`s, one after the other, so that the first ones are read while the last still run:

    config, vocabulary, tokenizer (fast, then slow), every tensor's shape and finiteness, a VQ round trip, a sample

A check that another one makes pointless is left out (`ok` None) with the reason.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from dimoo.model.checkpoint import authors_parts, load_config, read_rows, weight_files
from dimoo.model.transformer import Transformer
from dimoo.pipeline import load
from dimoo.tasks.base import Defaults, Picture, PictureOptions, TextOptions
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tasks.understand import Understand
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.tokenizers.resize import fit_to_bucket, to_pixels
from dimoo.tokenizers.text import TextTokenizer
from dimoo.vocab import Vocab

SENTENCES = ("A red fox, left of 3 trees.", "What is in the picture?", "一只狐狸", "<system>a</system><user>b</user>")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: passed, failed, or left out (None), and what was found."""

    name: str
    ok: bool | None
    detail: str
    seconds: float


def run(folder: Path, *, picture: Picture | None = None, sample: bool = True) -> Iterator[Check]:
    """All checks of a folder. `picture` for the VQ round trip; `sample` loads the whole model and runs it."""
    failed: set[str] = set()
    for name, (needs, check) in CHECKS.items():
        if name == "sample" and not sample:
            yield Check(name=name, ok=None, detail="not asked for", seconds=0.0)
            continue
        if missing := [need for need in needs if need in failed]:
            yield Check(name=name, ok=None, detail=f"left out: {', '.join(missing)} failed", seconds=0.0)
            failed.add(name)
            continue
        start = time.perf_counter()
        try:
            ok, detail = check(folder) if name != "vq round trip" else vq_round_trip(folder, picture)
        except (ValueError, OSError, RuntimeError) as error:
            ok, detail = False, " ".join(str(error).split())
        if ok is False:
            failed.add(name)
        yield Check(name=name, ok=ok, detail=detail, seconds=round(time.perf_counter() - start, 3))


def machine() -> dict[str, str]:
    """What it ran on, for the report."""
    from dimoo.metadata import versions

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return {
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": "cpu" if accelerator is None else str(accelerator),
        **versions(),
    }


Finding = tuple[bool | None, str]


def config(folder: Path) -> Finding:
    found = load_config(folder)
    return True, f"{found.parameters:,} parameters, {found.n_layers} layers, width {found.d_model}"


def vocabulary(folder: Path) -> Finding:
    vocab = Vocab.load(folder)
    size = load_config(folder).vocab_size
    detail = f"{vocab.image_offset:,} text ids, {vocab.codes:,} image codes"
    if size != vocab.size:
        return False, f"{detail}, but the model has {size:,} ids"
    return True, detail


def fast_tokenizer(folder: Path) -> Finding:
    if not (folder / "tokenizer.json").is_file():
        return None, "no tokenizer.json"
    return _agrees(TextTokenizer.fast(folder / "tokenizer.json"), folder)


def slow_tokenizer(folder: Path) -> Finding:
    """transformers' reading of the same files, and whether both give the same ids."""
    if not (folder / "tokenizer_config.json").is_file():
        return None, "no tokenizer_config.json: there is no other reading"
    slow = TextTokenizer.slow(folder)
    ok, detail = _agrees(slow, folder)
    if ok and (folder / "tokenizer.json").is_file():
        fast = TextTokenizer.fast(folder / "tokenizer.json")
        for sentence in SENTENCES:
            if fast.encode(sentence) != slow.encode(sentence):
                return False, f"{sentence!r} gives {slow.encode(sentence)}, the fast one {fast.encode(sentence)}"
    return ok, detail


def _agrees(tokenizer: TextTokenizer, folder: Path) -> Finding:
    vocab = Vocab.load(folder)
    wrong = tokenizer.check(vocab)
    beyond = [s for s in SENTENCES if max(tokenizer.encode(s), default=0) >= vocab.image_offset]
    if beyond:
        wrong.append(f"{beyond[0]!r} gives ids among the image codes")
    return not wrong, "; ".join(wrong) or "special ids agree"


def tensors(folder: Path) -> Finding:
    """Every tensor that the model needs: its shape, no NaN, no infinity. All faults are listed."""
    found = load_config(folder)
    where = weight_files(folder)
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Transformer(found).named_parameters()}
    theirs = authors_parts(found)
    if next(iter(theirs.values()))[0].name in where:
        shapes = {part.name: (part.rows, *shapes[name][1:]) for name, parts in theirs.items() for part in parts}
    faults = []
    for name, shape in shapes.items():
        try:
            for _ in read_rows(where, name, shape, folder):
                pass
        except ValueError as error:
            faults.append(str(error))
    unused = sorted(set(where) - set(shapes))
    detail = f"{len(shapes)} tensors of the right shape, all finite"
    if unused:
        detail += f"; {len(unused)} that nothing reads, such as {unused[0]}"
    return not faults, "; ".join(faults) or detail


def vq_round_trip(folder: Path, picture: Picture | None) -> Finding:
    """Pixels to codes and back: peak signal-to-noise ratio, and how many codes it took."""
    tokenizer = ImageTokenizer.load(folder)
    defaults = Defaults.load(folder)
    shown = fit_to_bucket(picture or sample_picture(), min(defaults.height, 512), max(tokenizer.factor, 16))
    pixels = to_pixels(shown)
    codes = tokenizer.encode(pixels)
    error = float(((tokenizer.decode(codes).astype(np.float64) - pixels) ** 2).mean())
    psnr = 10 * np.log10(255**2 / max(error, 1e-9))
    used = len(codes.unique())
    room = Vocab.load(folder).codes
    detail = f"{psnr:.1f} dB at {pixels.shape[0]} x {pixels.shape[1]}, {used} of {tokenizer.codes} codes"
    if tokenizer.codes > room:
        return False, f"{detail}; the vocabulary has room for {room} only"
    return True, detail


def sample(folder: Path) -> Finding:
    """A small picture and a short answer by the whole pipeline."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None, "left out: without tokenizer files it takes ids only"
    pipe = load(folder)
    side = 4 * pipe.tools.image.factor
    drawn = pipe.run(TextToImage(prompt="a red fox", height=side, width=side, options=PictureOptions(steps=4)))
    answer = pipe.run(
        Understand(question="What is a fox?", options=TextOptions(answer_length=8, block_length=8, steps=4))
    )
    assert drawn.codes is not None, "a picture has codes"
    return True, (
        f"{side} x {side} pixels of {len(drawn.codes.unique())} codes in {drawn.seconds:.1f} s; "
        f"answer {answer.text!r} in {answer.seconds:.1f} s"
    )


def sample_picture() -> Picture:
    """Plain areas, edges, a gradient: something of everything."""
    side = 256
    ramp = np.linspace(60, 230, side).astype(np.uint8)
    canvas = Image.fromarray(np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], np.uint8(180)), axis=-1))
    pen = ImageDraw.Draw(canvas)
    pen.ellipse((40, 40, 150, 150), fill=(220, 60, 40))
    pen.rectangle((140, 120, 220, 220), fill=(40, 110, 60))
    pen.line((10, 240, 240, 20), fill=(20, 20, 20), width=5)
    return canvas


# name: (the checks that must not have failed, the check)
CHECKS: dict[str, tuple[tuple[str, ...], Callable[[Path], Finding]]] = {
    "config": ((), config),
    "vocabulary": (("config",), vocabulary),
    "tokenizer, fast": (("vocabulary",), fast_tokenizer),
    "tokenizer, slow": (("vocabulary",), slow_tokenizer),
    "tensors": (("config",), tensors),
    "vq round trip": (("vocabulary",), lambda folder: vq_round_trip(folder, None)),
    "sample": (("vocabulary", "tokenizer, fast", "tensors", "vq round trip"), sample),
}
