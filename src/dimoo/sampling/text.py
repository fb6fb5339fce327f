"""Filling answers block by block, low confidence re-masked (LLaDA's semi-autoregressive decoding, as released).

    1. blocks from the left; within a block, logits of its masked positions over the ids that text may hold
    2. an id for each (argmax at temperature 0), its softmax probability in float64 is the confidence
    3. reveal the surest: an even share a step, or by a confidence threshold or an entropy bound
    4. stop once `</answer>` stands with everything before it filled; the rest becomes padding: no mask is left

In: guided pages, settings, one generator a page. Out: a `Step` after each iteration. Pages are not changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dimoo.diffusion.schedule import even_counts
from dimoo.model.transformer import Transformer
from dimoo.sampling.choose import Choice, choose, reveal_bounded_entropy, reveal_confident, reveal_count, to_host
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import Step
from dimoo.sampling.read import Candidates, Reader
from dimoo.sampling.settings import TextSettings
from dimoo.vocab import Vocab


@torch.inference_mode()
def fill_text(
    model: Transformer, guided: Sequence[Guided], settings: TextSettings, generators: Sequence[torch.Generator]
) -> Iterator[Step]:
    """Fill the writable positions of each page with text. All answers have the same number of positions."""
    if len(guided) != len(generators):
        raise ValueError(f"{len(guided)} pages need as many generators, got {len(generators)}")
    pages = tuple(one.page for one in guided)
    vocab = pages[0].vocab
    ids = [page.ids[page.slots] for page in pages]
    length = len(ids[0])
    if any(len(part) != length for part in ids):
        raise ValueError(f"answers filled together must have equal lengths, got {[len(part) for part in ids]}")
    blocks = settings.blocks(length)
    ruled = settings.threshold is not None or settings.entropy_bound is not None
    steps = settings.block_length if ruled else settings.steps // blocks
    probability = [torch.ones(length) for _ in pages]
    index = 0
    for block in range(blocks):
        inside = torch.zeros(length, dtype=torch.bool)
        inside[block * settings.block_length : (block + 1) * settings.block_length] = True
        active = [i for i in range(len(pages)) if bool(((ids[i] == vocab.mask) & inside).any())]
        if not active:
            continue
        reader = Reader(
            model, [guided[i] for i in active], _candidates(vocab, settings), settings.policy, torch.float32
        )
        plans = {i: even_counts(int(((ids[i] == vocab.mask) & inside).sum()), steps) for i in active}
        revealed = {i: torch.zeros(length, dtype=torch.bool) for i in active}
        scores = {i: torch.full((length,), -torch.inf) for i in active}
        for step in range(steps):
            masked = {i: (ids[i] == vocab.mask) & inside for i in active}
            if not any(bool(part.any()) for part in masked.values()):
                break
            logits = reader.read(
                [ids[i] for i in active],
                [masked[i] for i in active],
                step=step,
                steps=steps,
                revealed=[revealed[i] for i in active],
                scores=[scores[i] for i in active],
                next_counts=[plans[i][step] for i in active],
            )
            columns = []
            for i, logits_MV in zip(active, logits, strict=True):
                if logits_MV.device.type == "mps":  # it has no float64, which confidences are in
                    logits_MV = logits_MV.cpu()
                choice = _choose(logits_MV, generators[i], settings)
                now = _reveal(logits_MV, choice, plans[i][step], settings)
                columns.append([choice.ids_M, choice.score_M, choice.probability_M, now])
            guess = list(ids)
            for i, (number, score, sure, revealing) in zip(active, to_host(columns), strict=True):
                where = masked[i].nonzero().flatten()
                revealed[i] = torch.zeros(length, dtype=torch.bool)
                if not len(where):
                    continue
                chosen, now = number.long(), revealing.bool()
                guess[i] = ids[i].index_copy(0, where, chosen)
                ids[i] = ids[i].index_copy(0, where, torch.where(now, chosen, vocab.mask))
                revealed[i][where] = now
                scores[i] = torch.full((length,), -torch.inf).index_copy(0, where, score)
                probability[i] = torch.ones(length).index_copy(0, where, sure)
                if settings.early_stop:
                    ids[i] = pad_after_end(ids[i], vocab)
            yield Step(
                index=index,
                steps=steps * blocks,
                ids=tuple(ids),
                guess=tuple(guess),
                revealed=tuple(revealed.get(i, torch.zeros(length, dtype=torch.bool)) for i in range(len(pages))),
                probability=tuple(probability),
                pages=pages,
            )
            index += 1


def pad_after_end(ids_N: Tensor, vocab: Vocab) -> Tensor:
    """The answer with padding after the first `</answer>`, if everything before that is filled; else as it is."""
    ends = (ids_N == vocab.answer_end).nonzero().flatten()
    if not len(ends) or bool((ids_N[: ends[0]] == vocab.mask).any()):
        return ids_N
    after = torch.arange(len(ids_N)) > ends[0]
    return torch.where(after, vocab.answer_pad, ids_N)


def _candidates(vocab: Vocab, settings: TextSettings) -> Candidates:
    if settings.candidates == "all":
        return Candidates(start=0, stop=vocab.size)
    return Candidates(start=0, stop=vocab.image_offset, forbidden=vocab.not_text)


def _choose(logits_MV: Tensor, generator: torch.Generator, settings: TextSettings) -> Choice:
    """The sampler's choice, with the float64 probability itself (noiseless) as the score."""
    choice = choose(
        logits_MV,
        generator,
        temperature=settings.temperature,
        noise=settings.noise,
        top_k=settings.top_k,
        top_p=settings.top_p,
    )
    confidence_M = logits_MV.double().softmax(dim=-1).gather(-1, choice.ids_M[:, None])[:, 0]
    return Choice(choice.ids_M, confidence_M, confidence_M)


def _reveal(logits_MV: Tensor, choice: Choice, count: int, settings: TextSettings) -> Tensor:
    if settings.threshold is not None:
        return reveal_confident(choice.probability_M, settings.threshold)
    if settings.entropy_bound is not None:
        return reveal_bounded_entropy(logits_MV, settings.entropy_bound)
    return reveal_count(choice.score_M, count)
