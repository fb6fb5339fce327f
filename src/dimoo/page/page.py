"""The page: the one place where ids are laid out, for training, sampling, evaluation and the server alike.

In: prompt ids (ending with the closing user tag), code grids of input images, and what is to be written.
Out: a frozen `Page`: the ids, named spans, and `writable`, one boolean per position.

    picture   prompt[:-1] + images + prompt[-1:] + [<answer> <IMAGE>] + rows + [</IMAGE> </answer>]
    text      prompt[:-1] + images + prompt[-1:] + [<answer>] + text (+ [</answer>] in the authors' layout)

Training hides writable positions, samplers fill them, losses are taken over them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dimoo.page.rows import cells, grid_to_rows, image_ids, rows_to_grid
from dimoo.page.show import show
from dimoo.vocab import Vocab

SpanKind = Literal["prompt", "image", "answer", "output"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Positions start..stop (exclusive) of one kind; `grid` is (rows, columns) for pictures.

    An `image` span includes its tags, an `output` span is the rows between the tags, an `answer` span the text
    positions after `<answer>`.
    """

    kind: SpanKind
    start: int
    stop: int
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """ids (L) int64, writable (L) bool, and the spans in order. Never changed in place."""

    ids: Tensor
    writable: Tensor
    spans: tuple[Span, ...]
    vocab: Vocab

    def __post_init__(self) -> None:
        assert self.ids.ndim == 1 and self.ids.dtype == torch.int64, "ids are one-dimensional int64"
        assert self.writable.shape == self.ids.shape and self.writable.dtype == torch.bool, "writable matches ids"

    def __len__(self) -> int:
        return self.ids.numel()

    def span(self, kind: SpanKind) -> Span:
        """The last span of a kind (a page has one answer or one output). ValueError if there is none."""
        for span in reversed(self.spans):
            if span.kind == kind:
                return span
        raise ValueError(f"the page has no {kind!r} span; it has {[s.kind for s in self.spans]}")

    @property
    def slots(self) -> Tensor:
        """Positions that may be written, in order."""
        return self.writable.nonzero().flatten()

    def replace(self, ids: Tensor) -> Page:
        """The same page with other ids at its writable positions. ValueError if any other position differs."""
        if ids.shape != self.ids.shape:
            raise ValueError(f"the page has {len(self)} ids, got {tuple(ids.shape)}")
        if bool(((ids != self.ids) & ~self.writable).any()):
            raise ValueError("only writable positions of a page can be replaced")
        return dataclasses.replace(self, ids=ids.clone())

    def hide(self) -> Page:
        """The same page with the mask id at every writable position."""
        return self.replace(torch.where(self.writable, self.vocab.mask, self.ids))

    def output_codes(self) -> Tensor:
        """Codes (R, C) of the output picture, -1 where still masked."""
        span = self.span("output")
        assert span.grid is not None, "an output span has a grid"
        return rows_to_grid(self.ids[span.start : span.stop], *span.grid, self.vocab)

    def answer_ids(self) -> list[int]:
        """Ids of the answer, cut at the first `</answer>` or padding."""
        span = self.span("answer")
        ids: list[int] = self.ids[span.start : span.stop].tolist()
        ends = [i for i, value in enumerate(ids) if value in (self.vocab.answer_end, self.vocab.answer_pad)]
        return ids[: ends[0]] if ends else ids

    def show(self, *, colour: bool = True, text: Callable[[Sequence[int]], str] | None = None) -> str:
        """The page for human eyes (see `page/show.py`); `text` decodes runs of text ids."""
        return show(self, colour=colour, text=text)


@dataclass(frozen=True, kw_only=True, eq=False)
class Turn:
    """One message of a conversation: its prompt (ending with the closing user tag), its images, and, if it has been
    answered, the answer: text ids or a picture's codes (R, C). `places` says where in the prompt each image stands;
    by default all stand just before the last id."""

    prompt: Sequence[int]
    images: Sequence[Tensor] = ()
    places: Sequence[int] | None = None
    answer: Sequence[int] | None = None
    picture: Tensor | None = None


def picture_page(
    prompt: Sequence[int],
    codes_RC: Tensor,
    vocab: Vocab,
    *,
    images: Sequence[Tensor] = (),
    places: Sequence[int] | None = None,
    history: Sequence[Turn] = (),
    writable_RC: Tensor | None = None,
) -> Page:
    """A page that asks for a picture of R x C codes.

    `codes_RC` holds what is known, -1 where masked; `writable_RC` says which cells may be written (default: all).
    ValueError if a masked cell is not writable or the shapes differ.
    """
    if writable_RC is None:
        writable_RC = torch.ones_like(codes_RC, dtype=torch.bool)
    if writable_RC.shape != codes_RC.shape:
        raise ValueError(f"the mask has shape {tuple(writable_RC.shape)}, the picture {tuple(codes_RC.shape)}")
    if bool(((codes_RC < 0) & ~writable_RC).any()):
        raise ValueError("a masked cell must be writable")
    parts, spans = _front([*history, Turn(prompt=prompt, images=images, places=places)], vocab)
    rows, columns = codes_RC.shape
    start = sum(map(len, parts)) + 2
    body = grid_to_rows(codes_RC, vocab)
    ids = torch.cat([*parts, _ids([vocab.answer_start, vocab.boi]), body, _ids([vocab.eoi, vocab.answer_end])])
    writable = torch.zeros(len(ids), dtype=torch.bool)
    writable[start + cells(rows, columns)] = writable_RC.flatten()
    spans.append(Span(kind="output", start=start, stop=start + len(body), grid=(rows, columns)))
    return Page(ids=ids, writable=writable, spans=tuple(spans), vocab=vocab)


def text_page(
    prompt: Sequence[int],
    answer: Sequence[int],
    vocab: Vocab,
    *,
    images: Sequence[Tensor] = (),
    places: Sequence[int] | None = None,
    history: Sequence[Turn] = (),
    closed: bool = False,
) -> Page:
    """A page that asks for text: `<answer>` and the answer's positions, all writable.

    `closed` puts the authors' fixed `</answer>` after them (their inference layout).
    """
    parts, spans = _front([*history, Turn(prompt=prompt, images=images, places=places)], vocab)
    start = sum(map(len, parts)) + 1
    tail = [vocab.answer_end] if closed else []
    ids = torch.cat([*parts, _ids([vocab.answer_start, *answer, *tail])])
    writable = torch.zeros(len(ids), dtype=torch.bool)
    writable[start : start + len(answer)] = True
    spans.append(Span(kind="answer", start=start, stop=start + len(answer)))
    return Page(ids=ids, writable=writable, spans=tuple(spans), vocab=vocab)


def _front(turns: Sequence[Turn], vocab: Vocab) -> tuple[list[Tensor], list[Span]]:
    """Everything before the open answer: prompts with their images, and the answers of finished turns."""
    parts: list[Tensor] = []
    spans: list[Span] = []
    at = 0

    def add(kind: SpanKind, ids: Tensor, grid: tuple[int, int] | None = None) -> None:
        nonlocal at
        parts.append(ids)
        spans.append(Span(kind=kind, start=at, stop=at + len(ids), grid=grid))
        at += len(ids)

    def add_image(codes_RC: Tensor) -> None:
        add("image", image_ids(codes_RC, vocab), (codes_RC.shape[0], codes_RC.shape[1]))

    for turn in turns:
        if not turn.prompt:
            raise ValueError("a prompt has at least its closing tag, got no ids")
        places = [len(turn.prompt) - 1] * len(turn.images) if turn.places is None else list(turn.places)
        within = all(0 <= place < len(turn.prompt) for place in places)
        if len(places) != len(turn.images) or places != sorted(places) or not within:
            raise ValueError(
                f"places {places} must name an ascending place, before one of the prompt's {len(turn.prompt)} ids, "
                f"for each of {len(turn.images)} images"
            )
        done = 0
        for place, image in zip(places, turn.images, strict=True):
            if place > done:
                add("prompt", _ids(turn.prompt[done:place]))
            done = max(done, place)
            add_image(image)
        add("prompt", _ids(turn.prompt[done:]))
        if turn.picture is not None:
            add("prompt", _ids([vocab.answer_start]))
            add_image(turn.picture)
            add("prompt", _ids([vocab.answer_end]))
        elif turn.answer is not None:
            add("prompt", _ids([vocab.answer_start, *turn.answer, vocab.answer_end]))
    return parts, spans


def _ids(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)
