"""Weights, tokenizers and tasks together: `load(path_or_id)`, then `run`, `run_batch` or `stream`.

    pipe = dimoo.load()                                   # the small model that ships with the package
    picture = pipe.run(TextToImage(prompt="a fox")).picture

The same request gives the same result alone, in any batch and in any order: noise comes from its own seed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dimoo.model.checkpoint import find, load_model
from dimoo.model.quantise import Quantisation
from dimoo.model.transformer import Transformer
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import Step, fill_image
from dimoo.sampling.read import FirstStates
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.sampling.text import fill_text
from dimoo.tasks.base import Answer, Defaults, Picture, Task, Tools
from dimoo.tasks.edit import Edit, edit_type
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.tokenizers.text import TextTokenizer
from dimoo.vocab import Vocab

SHIPPED = Path(__file__).parent / "assets" / "small"


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A finished request: its picture or its text, how long it took, and the settings that were used."""

    request: Task
    picture: Picture | None
    text: str | None
    codes: Tensor | None = field(default=None, repr=False)
    settings: ImageSettings | TextSettings
    seconds: float
    steps: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Progress:
    """One step of one request, for progress bars, previews and films; `result` is set on the last."""

    index: int
    steps: int
    masked: int
    total: int
    step: Step
    result: Result | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A request whose page is laid out and whose settings are resolved."""

    request: Task
    guided: Guided
    settings: ImageSettings | TextSettings

    @property
    def kind(self) -> tuple[ImageSettings | TextSettings, int | None]:
        """Requests of equal kind can be filled together: the same settings, and for text the same length."""
        length = int(self.guided.page.writable.sum()) if isinstance(self.settings, TextSettings) else None
        return self.settings, length


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """A checkpoint at work. `first` is what its first steps have in common."""

    model: Transformer
    tools: Tools
    folder: Path
    first: FirstStates = field(default_factory=FirstStates, repr=False)

    def run(self, request: Task) -> Result:
        """One request. ValueError if it cannot be met."""
        return self.run_batch([request])[0]

    def run_batch(self, requests: Sequence[Task]) -> list[Result]:
        """Many requests; those with the same settings are filled together. Results in the order of the requests."""
        prepared = [self.prepare(request) for request in requests]
        groups: dict[Any, list[int]] = {}
        for index, one in enumerate(prepared):
            groups.setdefault(one.kind, []).append(index)
        results: dict[int, Result] = {}
        for members in groups.values():
            start = time.perf_counter()
            together = [prepared[index] for index in members]
            *_, step = self.fill(together)
            for position, index in enumerate(members):
                results[index] = self.finish(prepared[index], step, position, start)
        return [results[index] for index in range(len(requests))]

    def stream(self, request: Task) -> Iterator[Progress]:
        """One request, step by step; the last `Progress` carries the result."""
        prepared = self.prepare(request)
        page = prepared.guided.page
        total = int((page.ids[page.slots] == self.tools.vocab.mask).sum())
        start = time.perf_counter()
        last: Step | None = None
        for step in self.fill([prepared]):
            if last is not None:
                yield _progress(last, total, None)
            last = step
        assert last is not None, "a page with something to fill takes a step"
        yield _progress(last, total, self.finish(prepared, last, 0, start))

    def prepare(self, request: Task) -> Prepared:
        """The request's page and settings; an edit that asks first has its answer. ValueError if it cannot be met."""
        told = request
        if isinstance(request, Edit) and (question := request.question(self.tools.defaults)) is not None:
            told = request.told(self.run(question).text or "")
        return Prepared(request=request, guided=told.guided(self.tools), settings=request.settings(self.tools))

    def fill(self, prepared: Sequence[Prepared]) -> Iterator[Step]:
        """Requests of one `kind` filled together, step by step, for those who batch by themselves (the server)."""
        settings = prepared[0].settings
        assert all(one.kind == prepared[0].kind for one in prepared), "one batch has one kind"
        guided = [one.guided for one in prepared]
        generators = [_generator(one.request.seed) for one in prepared]
        if isinstance(settings, ImageSettings):
            return fill_image(self.model, guided, settings, generators, first=self.first)
        return fill_text(self.model, guided, settings, generators)

    def finish(self, prepared: Prepared, step: Step, position: int, start: float) -> Result:
        """The result of the batch's member at `position`, whose page is filled after `step`; `start` of the timing."""
        answer: Answer = prepared.request.read(self.tools, step.page(position))
        return Result(
            request=prepared.request,
            picture=answer.picture,
            text=answer.text,
            codes=answer.codes,
            settings=prepared.settings,
            seconds=time.perf_counter() - start,
            steps=step.index + 1,
        )


def load(
    path_or_id: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
    tile: int | None = None,
    quantise: Quantisation | None = None,
    compile: bool = False,
) -> Pipeline:
    """A checkpoint folder, a hub id, or (None) the small model that ships with the package.

    `device` auto takes CUDA, MPS or an NPU where there is one; `dtype` None keeps the stored one, but float32 for the
    small model on a CPU. `tile`: let the VQ model work in tiles of so many pixels. `quantise`: the blocks' matrices in
    eight bits (`model/quantise.py`). `compile`: compile the blocks. ValueError for a folder that is no checkpoint.
    """
    if path_or_id is None and not (SHIPPED / "config.json").is_file():
        raise ValueError("no small model is shipped yet: give a checkpoint folder or a hub id")
    folder = SHIPPED if path_or_id is None else find(path_or_id)
    where = pick_device(device)
    if dtype is None and where.type == "cpu" and path_or_id is None:
        dtype = torch.float32
    vocab = Vocab.load(folder)
    text = TextTokenizer.load(folder)
    if wrong := text.check(vocab):
        raise ValueError(f"{folder}: {wrong[0]}")
    model = load_model(folder, device=where, dtype=dtype, quantise=quantise)
    if compile:
        model.compile_blocks()
    if model.config.vocab_size != vocab.size:
        raise ValueError(f"{folder}: the model has {model.config.vocab_size} ids, the vocabulary {vocab.size}")
    image = ImageTokenizer.load(folder, device=where, tile=tile)
    if image.codes > vocab.codes:
        raise ValueError(f"{folder}: the VQ model has {image.codes} codes, the vocabulary room for {vocab.codes}")
    defaults = Defaults.load(folder)
    for name in defaults.edit_questions:
        edit_type(name)  # refuses a question to no edit, which nobody would ever ask
    tools = Tools(vocab=vocab, text=text, image=image, defaults=defaults)
    return Pipeline(model=model, tools=tools, folder=folder)


def pick_device(name: str | torch.device) -> torch.device:
    """auto: the accelerator that torch finds (CUDA, MPS, NPU, ...), else the CPU. ValueError for a device that torch
    does not know, or that is not there."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if accelerator is None else accelerator
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each backend has another
        raise ValueError(f"device {str(name)!r} can't be used: {str(error).splitlines()[0]}") from error
    return device


def _generator(seed: int) -> torch.Generator:
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"a seed must lie in -2^63 .. 2^64 - 1, got {seed}")
    return torch.Generator().manual_seed(seed)


def _progress(step: Step, total: int, result: Result | None) -> Progress:
    masked = int((step.ids[0] == step.pages[0].vocab.mask).sum())
    return Progress(index=step.index, steps=step.steps, masked=masked, total=total, step=step, result=result)
