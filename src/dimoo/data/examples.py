"""A record becomes a page, through the same task code that inference uses.

In: a `Record` whose pictures are code grids. Out: a fully known `Page` whose writable positions may be hidden.
Conditions are dropped here: text alone, picture alone, or both, because two-scale guidance contrasts with each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dimoo.data.records import Record
from dimoo.page.page import Page
from dimoo.tasks import edit, text_to_image, understand
from dimoo.tasks.base import Tools


@dataclass(frozen=True, kw_only=True)
class ExampleSettings:
    """Dropout of conditions, and the lengths that answers are padded to (the shortest that fits, or a longer one)."""

    drop_text: float = 0.1  # pages with words and no input picture
    drop_text_only: float = 0.05  # edits: words dropped, pictures kept
    drop_image_only: float = 0.05
    drop_both: float = 0.05
    answer_lengths: tuple[int, ...] = (8, 16, 32, 64)
    # what was never seen must be read from what is known of it: cells of pictures that are read become any codes
    noisy_share: float = 0.0  # of the pages that read
    noisy_cells: float = 0.25  # at most so large a share of a picture, uniform
    longer_answer: float = 0.5  # how often the next longer length is taken, again and again
    # a sampler finds what an edit leaves long before what it changes: so often the cells that stay are given
    given_share: float = 0.0


def training_page(record: Record, tools: Tools, generator: torch.Generator, settings: ExampleSettings) -> Page:
    """The page of a record. ValueError if the record's task is unknown or it lacks its answer."""
    if record.task in ("text_to_image", "inpaint", "outpaint"):
        codes, mask = _codes(record.answer_image), None
        if record.mask is not None:  # outside it what a painter sees: the input's codes, its hole filled
            mask = torch.from_numpy(record.mask.astype(bool))
            codes = torch.where(mask, codes, _codes(record.images[0]))
        page, empty = text_to_image.pages(tools, record.prompt, codes, mask)
        return empty if _uniform(generator) < settings.drop_text else page
    if record.task == "edit":
        images = tuple(_codes(image) for image in record.images)
        answer = _codes(record.answer_image)
        branches = edit.pages(tools, edit.edit_type(record.kind), record.prompt, images, answer)
        page = branches[_branch(generator, settings)]
        if settings.given_share and _uniform(generator) < settings.given_share:
            return _with_the_rest_given(page, images[0], answer)
        return page
    if record.task in ("understand", "chat"):
        images = tuple(_noisy(_codes(image), tools.vocab.codes, generator, settings) for image in record.images)
        turns = understand.question_turns(tools, record.prompt, images, record.history)
        return understand.page(tools, turns, _answer(record, tools, generator, settings))
    raise ValueError(f"unknown task {record.task!r} in a training record")


def _answer(record: Record, tools: Tools, generator: torch.Generator, settings: ExampleSettings) -> list[int]:
    """Text, `</answer>`, then padding ids up to one of the lengths; all of it is learnt."""
    if record.answer_text is None:
        raise ValueError(f"the {record.task} record {record.prompt!r} has no answer text")
    ids = [*tools.text.encode(record.answer_text), tools.vocab.answer_end]
    fitting = [length for length in settings.answer_lengths if length >= len(ids)]
    if not fitting:
        raise ValueError(f"an answer of {len(ids)} ids exceeds the longest length {settings.answer_lengths[-1]}")
    while len(fitting) > 1 and _uniform(generator) < settings.longer_answer:
        fitting = fitting[1:]
    return ids + [tools.vocab.answer_pad] * (fitting[0] - len(ids))


def _branch(generator: torch.Generator, settings: ExampleSettings) -> int:
    """Which of an edit's pages: whole, without words, without pictures, or without both."""
    at = _uniform(generator)
    for index, share in enumerate((settings.drop_text_only, settings.drop_image_only, settings.drop_both), start=1):
        if at < share:
            return index
        at -= share
    return 0


def _with_the_rest_given(page: Page, before_RC: Tensor, after_RC: Tensor) -> Page:
    """The page with only the changed cells of its picture to fill; as it is where all change or none."""
    if before_RC.shape != after_RC.shape or bool((before_RC == after_RC).all()):
        return page
    writable = page.writable.clone()
    writable[page.slots[(before_RC == after_RC).flatten()]] = False
    return replace(page, writable=writable)


def _codes(grid: np.ndarray | None) -> Tensor:
    if grid is None or grid.ndim != 2:
        raise ValueError("a training record's pictures must be code grids (R, C)")
    return torch.from_numpy(grid.astype(np.int64))


def _noisy(codes_RC: Tensor, codebook: int, generator: torch.Generator, settings: ExampleSettings) -> Tensor:
    """The codes with a random share of them replaced, or as they are."""
    if not settings.noisy_share or _uniform(generator) >= settings.noisy_share:
        return codes_RC
    lost_RC = torch.rand(codes_RC.shape, generator=generator) < settings.noisy_cells * _uniform(generator)
    return torch.where(lost_RC, torch.randint(codebook, codes_RC.shape, generator=generator), codes_RC)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
