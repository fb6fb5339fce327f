"""Small things that the engine's tests share: a vocabulary, random backbones, pages of every task, spies.

Everything is made from seeds, in a moment, without files. `fill` runs a sampler to its end.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hypothesis
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.page.page import picture_page, text_page
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import Step, fill_image
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.sampling.text import fill_text
from dimoo.tasks.base import Defaults, Tools
from dimoo.tokenizers.text import TextTokenizer
from dimoo.vocab import Vocab

# Examples are the same in every run, and a busy machine is no failure.
hypothesis.settings.register_profile("engine", deadline=None, derandomize=True, database=None, max_examples=40)
hypothesis.settings.load_profile("engine")
torch.set_num_threads(1)  # for matrices this small, threads only wait for each other
TEXT, CODES = 40, 46
VOCAB = Vocab(
    size=TEXT + 12 + CODES,
    image_offset=TEXT + 12,
    mask=TEXT,
    newline=TEXT + 1,
    boi=TEXT + 2,
    eoi=TEXT + 3,
    uncondition=TEXT + 4,
    answer_start=TEXT + 5,
    answer_end=TEXT + 6,
    answer_pad=TEXT + 7,
    structural=(TEXT + 8, TEXT + 9, TEXT + 10, TEXT + 11),
)


def config(**changes: Any) -> ModelConfig:
    values = {"d_model": 32, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_ff": 48, "vocab_size": VOCAB.size}
    return ModelConfig(**{**values, **changes})


def small_model(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Transformer:
    """Random weights lively enough that attention matters and logits do not nearly tie."""
    model = Transformer(config(**changes))
    drawing = generator(seed)
    root = model.config.d_model**0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = {"embedding": 1.0, "head": 1.0 / root}.get(name.split(".")[0], 1.5 / root)
            noise = torch.randn(parameter.shape, generator=drawing)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else scale * noise)
            if name.endswith("qkv.weight"):
                parameter[: model.config.d_model] *= 1.6
    return model.to(dtype).eval().requires_grad_(False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def words(length: int, seed: int) -> list[int]:
    return torch.randint(0, TEXT, (length,), generator=generator(seed)).tolist()


def grid(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randint(0, CODES, (rows, columns), generator=generator(seed))


def blank(rows: int, columns: int) -> Tensor:
    return torch.full((rows, columns), -1)


def drawn(length: int, rows: int, columns: int, seed: int, *, scale: float = 3.0) -> Guided:
    """Text-to-image: a prompt of `length` ids and a shorter unconditional one."""
    body = blank(rows, columns)
    page = picture_page(words(length, seed), body, VOCAB)
    return Guided(page, ((picture_page([*words(2, 99), VOCAB.uncondition, 7], body, VOCAB), scale),))


def painted(length: int, rows: int, columns: int, seed: int, *, scale: float = 3.0) -> Guided:
    """Inpainting: about half of the cells known and fixed."""
    hidden = torch.rand(rows, columns, generator=generator(seed)) < 0.5
    hidden[0, 0] = True
    body = torch.where(hidden, -1, grid(rows, columns, seed))
    page = picture_page(words(length, seed), body, VOCAB, writable_RC=hidden)
    return Guided(page, ((picture_page([1, VOCAB.uncondition, 7], body, VOCAB, writable_RC=hidden), scale),))


def edited(length: int, rows: int, columns: int, seed: int, *, scales: tuple[float, float] = (2.5, 4.0)) -> Guided:
    """An edit of two input pictures: all, text dropped, pictures dropped."""
    body, images = blank(rows, columns), [grid(rows, columns, seed + 1), grid(2, 3, seed + 2)]
    prompt = words(length, seed)
    return Guided(
        picture_page(prompt, body, VOCAB, images=images),
        (
            (picture_page([1, VOCAB.uncondition, 7], body, VOCAB, images=images), scales[0]),
            (picture_page(prompt, body, VOCAB), scales[1]),
        ),
    )


def asked(length: int, answer: int, seed: int, *, closed: bool = False) -> Guided:
    """A question about one picture, `answer` masks to fill."""
    images = [grid(2 + seed % 2, 3, seed)]
    return Guided(text_page(words(length, seed), [VOCAB.mask] * answer, VOCAB, images=images, closed=closed))


def steps(
    model: Transformer, guided: Sequence[Guided], settings: ImageSettings | TextSettings, seeds: Sequence[int]
) -> list[Step]:
    generators = [generator(seed) for seed in seeds]
    if isinstance(settings, ImageSettings):
        return list(fill_image(model, guided, settings, generators))
    return list(fill_text(model, guided, settings, generators))


def fill(
    model: Transformer, guided: Sequence[Guided], settings: ImageSettings | TextSettings, seeds: Sequence[int]
) -> list[list[int]]:
    """Final ids at the writable positions of each page."""
    return [ids.tolist() for ids in steps(model, guided, settings, seeds)[-1].ids]


@contextmanager
def spy(model: Transformer) -> Iterator[list[int]]:
    """The number of rows of every forward pass within the block."""
    seen: list[int] = []

    def note(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows = kwargs.get("rows")
        seen.append(args[1].total if rows is None else len(rows))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def leaning(seed: int, **factors: float) -> Transformer:
    """A model whose head rows of some special ids are scaled, so that it says them often."""
    model = small_model(seed)
    for name, factor in factors.items():
        model.head.weight[getattr(VOCAB, name)] *= factor
    return model


class Shapes(TorchFunctionMode):
    """Shapes, also with dtypes, of everything that any torch function gives back, and the names of these functions (a
    dispatch mode would import the compiler)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()
        self.typed: set[tuple[tuple[int, ...], torch.dtype]] = set()
        self.called: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.seen |= {tuple(leaf.shape) for leaf in tensors}
        self.typed |= {(tuple(leaf.shape), leaf.dtype) for leaf in tensors}
        self.called.append(func.__name__)
        return result


TAGS = {"<system>": TEXT + 8, "</system>": TEXT + 9, "<user>": TEXT + 10, "</user>": TEXT + 11}


class Recorder:
    """A tokenizer of tags and words that notes every string it is asked to encode: a word's id is its hash."""

    def __init__(self) -> None:
        self.strings: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.strings.append(text)
        known = TAGS | {"<uncondition>": VOCAB.uncondition}
        return [known.get(part, zlib.crc32(part.encode()) % TEXT) for part in re.findall(r"<[/\w]+>|[^<\s]+", text)]

    def tokenizer(self) -> TextTokenizer:
        return TextTokenizer(self.encode, lambda ids: " ".join(map(str, ids)), TAGS.get)


class Blocks:
    """An image tokenizer whose codes are the mean brightness of cells of 16 x 16 pixels, and back."""

    factor = 16
    codes = CODES

    def encode(self, pixels: np.ndarray) -> Tensor:
        rows, columns = pixels.shape[0] // 16, pixels.shape[1] // 16
        assert pixels.shape == (rows * 16, columns * 16, 3), "whole cells"
        means = pixels.reshape(rows, 16, columns, 16, 3).mean((1, 3, 4))
        return torch.from_numpy((means / 256 * CODES).astype(np.int64))

    def decode(self, codes_RC: Tensor) -> np.ndarray:
        cells = (codes_RC.numpy() * 256 // CODES + 2).astype(np.uint8)
        return np.repeat(np.repeat(np.repeat(cells[..., None], 3, -1), 16, 0), 16, 1)


def stub_tools(recorder: Recorder | None = None, **defaults: Any) -> Tools:
    values = {"height": 48, "width": 64, "edit_area": 64, "understand_area": 64, "bucket_patch": 16, "noise": "exact",
              "steps": 4, "answer_length": 8, "block_length": 4, "text_steps": 4, "prompt_limit": 60}  # fmt: skip
    return Tools(
        vocab=VOCAB,
        text=(recorder or Recorder()).tokenizer(),
        image=Blocks(),  # type: ignore[arg-type]
        defaults=Defaults(**{**values, **defaults}),
    )


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """Random cells of 16 x 16 pixels."""
    cells = np.random.default_rng(seed).integers(0, 256, (-(-height // 16), -(-width // 16), 3), dtype=np.uint8)
    return Image.fromarray(np.repeat(np.repeat(cells, 16, 0), 16, 1)[:height, :width].copy())
