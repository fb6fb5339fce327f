"""The codebook of a VQ tokenizer while it is learned: unit vectors that follow their latents by averages.

In: unit latents of a batch. Out: indices, and the codebook's next state. Nothing here changes its arguments.

1. Start: spherical k-means of latents of a network that has learned a little without quantising.
2. A latent takes the code of greatest cosine. All codes have length one, so that is also the code of least Euclidean
   distance to the latent at *any* length: what diffusers' quantiser picks at inference.
3. Codes follow the exponential mean of their latents [van den Oord 2017, appendix A.1], renormalised [Yu 2022,
   ViT-VQGAN, section 3.2].
4. Codes that go unused are moved to badly served latents [Dhariwal 2020, Jukebox, section 3].

Shape legend: Z latents (pictures x rows x columns), E size of a code, K codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CodebookState:
    """Running statistics of the codes: `sums_KE` and `counts_K` are averages a step, `idle_K` is steps since use."""

    codes_KE: Tensor
    sums_KE: Tensor
    counts_K: Tensor
    idle_K: Tensor


def nearest_codes(latents_ZE: Tensor, codes_KE: Tensor) -> Tensor:
    """Index of the unit code of greatest cosine."""
    return (latents_ZE @ codes_KE.T).argmax(dim=-1)


def start_codebook(latents_ZE: Tensor, *, codes: int, rounds: int, generator: torch.Generator) -> CodebookState:
    """Spherical k-means of unit latents; centres without a latent stay where they started."""
    order = torch.randperm(latents_ZE.shape[0], generator=generator)
    codes_KE = latents_ZE[order[torch.arange(codes) % len(order)]]
    for _ in range(rounds):
        ids_Z = nearest_codes(latents_ZE, codes_KE)
        sums_KE = torch.zeros_like(codes_KE).index_add_(0, ids_Z, latents_ZE)
        codes_KE = torch.where(sums_KE.norm(dim=-1, keepdim=True) > 1e-6, F.normalize(sums_KE, dim=-1), codes_KE)
    return CodebookState(
        codes_KE=codes_KE,
        sums_KE=codes_KE.clone(),
        counts_K=torch.ones(codes),
        idle_K=torch.zeros(codes, dtype=torch.long),
    )


def follow(book: CodebookState, latents_ZE: Tensor, ids_Z: Tensor, *, decay: float) -> CodebookState:
    """Codes move to the running mean direction of the latents that chose them."""
    hits_K = torch.bincount(ids_Z, minlength=len(book.counts_K)).float()
    sums_KE = (book.sums_KE * decay).index_add_(0, ids_Z, latents_ZE, alpha=1 - decay)
    return CodebookState(
        codes_KE=F.normalize(sums_KE, dim=-1, eps=1e-30),
        sums_KE=sums_KE,
        counts_K=book.counts_K * decay + hits_K * (1 - decay),
        idle_K=torch.where(hits_K > 0, 0, book.idle_K + 1),
    )


def revive(
    book: CodebookState, latents_ZE: Tensor, ids_Z: Tensor, *, idle_steps: int, generator: torch.Generator
) -> CodebookState:
    """Move codes unused for `idle_steps` to latents drawn by their squared distance from their code."""
    dead = torch.nonzero(book.idle_K > idle_steps).flatten()[: len(latents_ZE) // 16]
    if len(dead) == 0:
        return book
    distance_Z = (1 - (latents_ZE * book.codes_KE[ids_Z]).sum(-1)).clamp_min(1e-6)
    chosen_ZE = latents_ZE[torch.multinomial(distance_Z, len(dead), generator=generator)]
    weight = book.counts_K.mean()
    return CodebookState(
        codes_KE=book.codes_KE.index_copy(0, dead, chosen_ZE),
        sums_KE=book.sums_KE.index_copy(0, dead, chosen_ZE * weight),
        counts_K=book.counts_K.index_fill(0, dead, float(weight)),
        idle_K=book.idle_K.index_fill(0, dead, 0),
    )
