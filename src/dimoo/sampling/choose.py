"""Pure choices of a sampler: which id at a masked position, how sure, and which positions to keep.

In: logits of masked positions, a generator. Out: ids, scores, which positions are revealed. Nothing is changed.

Noise comes in two kinds:
  exact      Gumbel noise in float32: ids are true samples of softmax(logits / temperature)
  reference  the authors' draw, every operation in bfloat16: noise lies in [-3.83, 5.53], so that unlikely ids are
             never drawn and likely ones too often (their published pictures depend on it)

Shapes: M masked positions, V candidate ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Noise = Literal["exact", "reference"]


@dataclass(frozen=True, eq=False)
class Choice:
    """For each masked position: the chosen id (index into the candidates), its probability, and its score."""

    ids_M: Tensor
    probability_M: Tensor
    score_M: Tensor


def to_host(pages: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Columns of every page, each (M), as float32 on the host, fetched together: a step waits for the device once.

    float32 holds ids, booleans, scores and probabilities exactly (ids are below 2^24).
    """
    packed = torch.cat([torch.stack([column.float() for column in page]) for page in pages], dim=1).cpu()
    return [list(part) for part in packed.split([len(page[0]) for page in pages], dim=1)]


def gumbel(shape: tuple[int, ...], generator: torch.Generator, noise: Noise, device: torch.device) -> Tensor:
    """Gumbel noise, float32 or bfloat16. Drawn on the generator's device, so that a seed means the same anywhere.

    reference: u = a 24-bit uniform rounded to bfloat16, 1 becoming 0; g = -log(-log(u + 1e-20) + 1e-20) with each
    operation in bfloat16, as the authors' `gumbel_noise` has it.
    """
    uniform = torch.rand(shape, generator=generator, device=generator.device).to(device)
    if noise == "exact":
        exponential = -torch.log(uniform.clamp_min(1e-20))
        return -torch.log(exponential.clamp_min(1e-20))
    if noise == "reference":
        rounded = uniform.to(torch.bfloat16)
        rounded = torch.where(rounded == 1, torch.zeros_like(rounded), rounded)
        return -torch.log(-torch.log(rounded + 1e-20) + 1e-20)
    raise ValueError(f"noise {noise!r} is not one of {', '.join(get_args(Noise))}")


def choose(
    logits_MV: Tensor,
    generator: torch.Generator,
    *,
    temperature: float,
    choice_temperature: float | None = None,
    noise: Noise = "exact",
    top_k: int | None = None,
    top_p: float | None = None,
) -> Choice:
    """Gumbel-max choice of an id and a noisy score for each position (the authors' parallel decoding).

    id = argmax(logits / temperature + g), first of equals; probability = softmax(logits) at the id, untempered;
    score = log max(probability, 1e-20) + choice_temperature * g', where None is `temperature`. At 0 the plain argmax
    and log-probability.
    """
    work_MV = logits_MV.to(torch.bfloat16) if noise == "reference" and temperature > 0 else logits_MV.float()
    kept_MV = keep_likely(work_MV, top_k=top_k, top_p=top_p, temperature=temperature)
    if temperature == 0:
        ids_M = kept_MV.argmax(dim=-1)
    else:
        ids_M = (kept_MV / temperature + gumbel(tuple(kept_MV.shape), generator, noise, kept_MV.device)).argmax(dim=-1)
    # A true softmax, not exp(logit - logsumexp): probabilities that round to the same number must tie.
    probability_M = work_MV.softmax(dim=-1).gather(-1, ids_M[:, None])[:, 0]
    score_M = probability_M.clamp_min(1e-20).log()
    spread = temperature if choice_temperature is None else choice_temperature
    if spread > 0:
        score_M = score_M + spread * gumbel(tuple(score_M.shape), generator, noise, score_M.device)
    return Choice(ids_M, probability_M.float(), score_M.float())


def keep_likely(logits_MV: Tensor, *, top_k: int | None, top_p: float | None, temperature: float) -> Tensor:
    """Logits with all but the likely ids at -inf: the `top_k` largest, then the smallest set of mass
    `top_p` and what is as likely as its last."""
    if top_k is not None:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        kth_M1 = logits_MV.topk(min(top_k, logits_MV.shape[-1]), dim=-1).values[:, -1:]
        logits_MV = logits_MV.masked_fill(logits_MV < kth_M1, -torch.inf)
    if top_p is not None:
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
        share_MV = (logits_MV.float() / (temperature or 1.0)).softmax(dim=-1)
        largest_MK = share_MV.topk(_nucleus_room(share_MV, top_p), dim=-1).values
        before_MK = largest_MK.cumsum(dim=-1) - largest_MK  # the id that crosses top_p is kept
        last_M1 = largest_MK.masked_fill(before_MK >= top_p, torch.inf).amin(dim=-1, keepdim=True)
        logits_MV = logits_MV.masked_fill(share_MV < last_M1, -torch.inf)
    return logits_MV


def _nucleus_room(share_MV: Tensor, top_p: float) -> int:
    """How many of the largest shares to sort for a mass of `top_p`. On a CPU few: those below (1 - top_p) / V are never
    needed, because together they have less than 1 - top_p. Elsewhere all, since counting them would wait for the
    device."""
    room = share_MV.shape[-1]
    if share_MV.device.type != "cpu" or not len(share_MV):
        return room
    return min(room, 1 + int((share_MV >= (1 - top_p) / room).sum(dim=-1).max()))


def reveal_highest(score_M: Tensor, left: int) -> Tensor:
    """Which positions to reveal so that `left` stay masked, (M) bool.

    A position stays masked if its score is strictly below the (left + 1)-th smallest: ties at the cut are revealed.
    """
    if left <= 0:
        return torch.ones_like(score_M, dtype=torch.bool)
    if left >= len(score_M):
        return torch.zeros_like(score_M, dtype=torch.bool)
    return score_M >= score_M.sort().values[left]


def reveal_count(score_M: Tensor, count: int) -> Tensor:
    """Exactly the `count` highest scores, the first of equals first, (M) bool."""
    revealed_M = torch.zeros_like(score_M, dtype=torch.bool)
    revealed_M[score_M.argsort(descending=True, stable=True)[:count]] = True
    return revealed_M


def reveal_confident(probability_M: Tensor, threshold: float) -> Tensor:
    """Every position surer than `threshold`, and the surest in any case (Fast-dLLM, arXiv 2505.22618)."""
    return (probability_M > threshold) | reveal_count(probability_M, 1)


def reveal_bounded_entropy(logits_MV: Tensor, bound: float) -> Tensor:
    """The positions of lowest entropy whose joint error is bounded (EB-Sampler, arXiv 2505.24857).

    Sorted by entropy H, the longest prefix with sum(H) - max(H) <= bound, in nats; at least one position.
    """
    log_p_MV = logits_MV.float().log_softmax(dim=-1)
    entropy_M = -(log_p_MV.exp() * log_p_MV.clamp_min(-1e4)).sum(dim=-1)
    ordered_M, order_M = entropy_M.sort(stable=True)
    within_M = ordered_M.cumsum(0) - ordered_M <= bound
    within_M[:1] = True
    revealed_M = torch.zeros_like(within_M)
    revealed_M[order_M] = within_M
    return revealed_M
