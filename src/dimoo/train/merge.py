"""Fewer codes for the same pictures: codes that nearly coincide are merged, so that one thing has one name.

A codebook that follows the density of its latents gives a plain background hundreds of codes that all look alike, and
which of them a cell gets is noise: a transformer then spends its capacity on guessing it. In: a VQ model whose codes
are unit vectors, and how often each is used. Out: a VQ model with the codes that stay, and where each old one went.

1. codes in order of use, the commonest first
2. a code stays unless it lies within the given cosine of one that stays
3. encoder and decoder are left as they are; the decoder may be trained on afterwards
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import VQModel
from torch import Tensor


def merge_codes(vq: VQModel, counts_K: Tensor, *, cosine: float) -> tuple[VQModel, Tensor]:
    """The smaller model (float32), and for each old code (K, int64) its new number."""
    if not 0 < cosine < 1:
        raise ValueError(f"cosine must lie between 0 and 1, got {cosine}")
    codes_KE = vq.quantize.embedding.weight.detach().float()
    units_KE = F.normalize(codes_KE, dim=-1)
    kept = representatives(units_KE, counts_K, cosine=cosine)
    config = {**vq.config, "num_vq_embeddings": len(kept)}
    smaller: VQModel = VQModel.from_config(config)
    weights = {name: value.detach().float().clone() for name, value in vq.state_dict().items()}
    weights["quantize.embedding.weight"] = codes_KE[kept].clone()
    smaller.load_state_dict(weights)
    return smaller.eval(), (units_KE @ units_KE[kept].T).argmax(dim=-1)


def representatives(units_KE: Tensor, counts_K: Tensor, *, cosine: float) -> Tensor:
    """Indices of the codes that stay, the most used first: no two of them are closer than `cosine`."""
    near_KK = units_KE @ units_KE.T > cosine
    free = torch.ones(len(units_KE), dtype=torch.bool)
    kept = []
    for code in torch.argsort(counts_K, descending=True, stable=True).tolist():
        if free[code]:
            kept.append(code)
            free &= ~near_KK[code]
    return torch.tensor(kept)
