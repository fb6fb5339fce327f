"""Filling pictures by parallel decoding (MaskGIT; the paper, section 3.3.1; the released code's variant).

    1. logits of the masked cells over the image codes, guided
    2. an id for each by Gumbel-max, and a score: log-probability + choice_temperature * Gumbel
    3. keep the highest scores, so that min(masked - 1, max(1, floor(N cos(pi/2 (s+1)/T)))) stay masked
    4. until nothing is masked; a fixed cell is never masked again

Other ways: the Halton order instead of the score (`sampling/order.py`), and an entropy bound that lets a step reveal
more than planned.

In: guided pages, settings, one generator a page. Out: a `Step` after each iteration. Pages are not changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo.diffusion.schedule import masked_counts
from dimoo.model.transformer import Transformer
from dimoo.page.page import Page
from dimoo.sampling.choose import choose, reveal_bounded_entropy, reveal_highest, to_host
from dimoo.sampling.guidance import Guided
from dimoo.sampling.order import halton_scores
from dimoo.sampling.read import Candidates, FirstStates, Reader
from dimoo.sampling.settings import ImageSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One iteration. For each page, over its writable positions (N): ids now (mask where masked), the best guess
    everywhere, which positions this step fixed, and the probability of every choice (1 where fixed before)."""

    index: int
    steps: int
    ids: tuple[Tensor, ...]
    guess: tuple[Tensor, ...]
    revealed: tuple[Tensor, ...]
    probability: tuple[Tensor, ...]
    pages: tuple[Page, ...]

    @property
    def masked(self) -> tuple[int, ...]:
        """Positions still masked on each page."""
        return tuple(int((ids == page.vocab.mask).sum()) for ids, page in zip(self.ids, self.pages, strict=True))

    def page(self, index: int) -> Page:
        """Page `index` as it stands after this step."""
        page = self.pages[index]
        return page.replace(page.ids.index_copy(0, page.slots, self.ids[index]))


@torch.inference_mode()
def fill_image(
    model: Transformer,
    guided: Sequence[Guided],
    settings: ImageSettings,
    generators: Sequence[torch.Generator],
    *,
    first: FirstStates | None = None,
) -> Iterator[Step]:
    """Fill the masked writable positions of each page with image codes. `first` keeps what other requests can use."""
    if len(guided) != len(generators):
        raise ValueError(f"{len(guided)} pages need as many generators, got {len(generators)}")
    pages = tuple(one.page for one in guided)
    vocab = pages[0].vocab
    candidates = Candidates(start=vocab.image_offset, stop=vocab.size)
    reference = settings.noise == "reference" and settings.temperature > 0
    dtype = torch.bfloat16 if reference else torch.float32
    reader = Reader(model, guided, candidates, settings.policy, dtype, reuse=settings.reuse, first=first)

    ids = [page.ids[page.slots] for page in pages]
    masked = [part == vocab.mask for part in ids]
    plans = [masked_counts(int(part.sum()), settings.steps, settings.schedule) for part in masked]
    revealed = [torch.zeros_like(part) for part in masked]
    scores = [torch.full(part.shape, -torch.inf) for part in masked]
    ranked = settings.order == "halton"
    if ranked:
        scores = [halton_scores(page, generator) for page, generator in zip(pages, generators, strict=True)]
    clocks = [0] * len(pages)  # how far each page is in its plan
    probability = [torch.ones(part.shape) for part in masked]
    total = max(len(plan) for plan in plans)
    for step in range(total):
        counts = [int(part.sum()) for part in masked]
        if settings.entropy_bound is not None:
            clocks = [_catch_up(clocks[i], plans[i], counts[i]) for i in range(len(pages))]
        left = [_left(counts[i], plans[i], clocks[i]) for i in range(len(pages))]
        logits = reader.read(
            ids,
            masked,
            step=step,
            steps=settings.steps,
            revealed=revealed,
            scores=scores,
            next_counts=[count - stay for count, stay in zip(counts, left, strict=True)],
        )
        choices = [
            choose(
                logits_MV,
                generator,
                temperature=settings.temperature,
                choice_temperature=settings.choice_temperature,
                noise=settings.noise,
                top_k=settings.top_k,
                top_p=settings.top_p,
            )
            for logits_MV, generator in zip(logits, generators, strict=True)
        ]
        columns = [[choice.ids_M, choice.score_M, choice.probability_M] for choice in choices]
        if settings.entropy_bound is not None:
            for column, logits_MV in zip(columns, logits, strict=True):
                column.append(reveal_bounded_entropy(logits_MV, settings.entropy_bound))
        guess = list(ids)
        for i, (number, score, sure, *easy) in enumerate(to_host(columns)):
            where = masked[i].nonzero().flatten()
            if not len(where):
                revealed[i] = torch.zeros_like(masked[i])
                continue
            chosen = number.long() + candidates.start
            score = scores[i][where] if ranked else score
            now = reveal_highest(score, left[i])
            for within in easy:
                now = now | within.bool()
            clocks[i] += 1
            guess[i] = ids[i].index_copy(0, where, chosen)
            ids[i] = ids[i].index_copy(0, where, torch.where(now, chosen, vocab.mask))
            revealed[i] = torch.zeros_like(masked[i]).index_copy(0, where, now)
            if not ranked:
                scores[i] = torch.full_like(scores[i], -torch.inf).index_copy(0, where, score)
            probability[i] = torch.ones_like(probability[i]).index_copy(0, where, sure)
            masked[i] = masked[i] & ~revealed[i]
        yield Step(
            index=step,
            steps=total,
            ids=tuple(ids),
            guess=tuple(guess),
            revealed=tuple(revealed),
            probability=tuple(probability),
            pages=pages,
        )
        if not any(bool(part.any()) for part in masked):
            return


def _catch_up(clock: int, plan: list[int], count: int) -> int:
    """The first place of the plan, from `clock` on, that leaves fewer cells masked than there are."""
    while clock < len(plan) and plan[clock] >= count > 0:
        clock += 1
    return clock


def _left(count: int, plan: list[int], step: int) -> int:
    """Cells that stay masked after this step: the plan, but fewer than now (ties may have revealed more)."""
    if step >= len(plan) or count == 0:
        return 0
    return min(plan[step], max(0, count - 1))
