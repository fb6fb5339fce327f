"""The backbone's forward pass as training runs it on a CPU: the same numbers as `Transformer`, in about two thirds of
the time.

In: the model, packed pages. Out: final hidden states of the hidden rows. What is different:

1. matrix products in `dtype` (bfloat16) on weights cast once a step, the residual stream in float32; no autocast
2. add and norm, rotation, SwiGLU are one compiled kernel each
3. attention as two batched products and a softmax: the fused kernel's backward pass is slow on a CPU (for 48 pages of
   100 ids and 4 heads of 64, 78 ms a layer against 20 ms on a Zen 4 core)

Shapes: T packed rows, M hidden rows, D width, F inner width; of pages of one length: B pages, L rows, N heads, H size
of a head, h half of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo.model.transformer import Block, Transformer, rotary_table
from dimoo.page.batch import Packing, Rows


def hidden_states(
    model: Transformer,
    ids_T: Tensor,
    packing: Packing,
    need: Rows,
    *,
    dtype: torch.dtype = torch.bfloat16,
    fuse: bool = True,
) -> Tensor:
    """Final hidden states (M, D) of the rows `need`, in `dtype`. `fuse` False runs the kernels uncompiled.

    Pages of one length should stand together: each run of them is one batch of attention.
    """
    config = model.config
    if config.n_kv_heads != config.n_heads:
        raise ValueError(f"training wants as many key as query heads, got {config.n_kv_heads} and {config.n_heads}")
    kernels: tuple[Callable[..., Any], ...] = (_add_norm, _rotate, _swiglu)
    add_norm, rotate, swiglu = (_compiled(kernel) if fuse else kernel for kernel in kernels)
    cos_L1H, sin_L1h = rotary_table(max(packing.lengths), config.head_dim, config.rope_theta, ids_T.device)
    cos_Lh, sin_Lh = cos_L1H[:, 0].chunk(2, dim=-1)[0].contiguous(), sin_L1h[:, 0]
    groups = [(length, len(list(pages))) for length, pages in groupby(packing.lengths)]

    x_TD = model.embedding(ids_T)
    update_TD = torch.zeros((), dtype=dtype).expand_as(x_TD)
    last = len(model.blocks) - 1
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block), "the backbone is made of blocks"
        x_TD, normed_TD = add_norm(x_TD, update_TD, block.attention_norm.weight, block.attention_norm.eps)
        qkv_TD = F.linear(normed_TD, block.qkv.weight.to(dtype))
        parts = []
        for (length, pages), part_TD in zip(
            groups, qkv_TD.split([length * pages for length, pages in groups]), strict=True
        ):
            q, k, v = _heads(part_TD.unflatten(0, (pages, length)), config.n_heads)
            q, k = (rotate(part, cos_Lh[:length], sin_Lh[:length]) for part in (q, k))
            parts.append(_attention(*(part.flatten(-2) for part in (q, k, v))).transpose(1, 2).flatten(2).flatten(0, 1))
        mixed_TD = torch.cat(parts)
        if layer == last:
            x_TD, mixed_TD = x_TD[need.index], mixed_TD[need.index]
        update_TD = F.linear(mixed_TD, block.attention_out.weight.to(dtype))
        x_TD, normed_TD = add_norm(x_TD, update_TD, block.mlp_norm.weight, block.mlp_norm.eps)
        gate_TF, up_TF = (F.linear(normed_TD, half) for half in block.gate_up.weight.to(dtype).chunk(2))
        inner_TF = swiglu(gate_TF, up_TF)
        update_TD = F.linear(inner_TF, block.down.weight.to(dtype))
    _, out_MD = add_norm(x_TD, update_TD, model.final_norm.weight, model.final_norm.eps)
    result: Tensor = out_MD
    return result


def _add_norm(x_TD: Tensor, update_TD: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + update (float32), and its root-mean-square norm in the update's dtype."""
    x_TD = x_TD + update_TD.float()
    scale_T1 = torch.rsqrt(x_TD.square().mean(-1, keepdim=True) + eps)
    return x_TD, (x_TD * scale_T1 * weight_D).to(update_TD.dtype)


def _heads(qkv_BLD: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Queries, keys and values, each (B, N, L, 2, h) in memory: head by head, a head in two halves of h = H / 2."""
    return qkv_BLD.unflatten(-1, (3, heads, 2, -1)).permute(2, 0, 3, 1, 4, 5).contiguous().unbind(0)


def _rotate(part_BNL2h: Tensor, cos_Lh: Tensor, sin_Lh: Tensor) -> Tensor:
    """Rotary embedding in float32, given back in the input's dtype."""
    first, second = part_BNL2h.float().unbind(-2)
    both = (first * cos_Lh - second * sin_Lh, second * cos_Lh + first * sin_Lh)
    return torch.stack(both, dim=-2).to(part_BNL2h.dtype)


def _attention(q_BNLH: Tensor, k_BNLH: Tensor, v_BNLH: Tensor) -> Tensor:
    q_BNLH = q_BNLH * q_BNLH.shape[-1] ** -0.5
    return (q_BNLH @ k_BNLH.transpose(-1, -2)).softmax(dim=-1) @ v_BNLH


def _swiglu(gate_TF: Tensor, up_TF: Tensor) -> Tensor:
    return (F.silu(gate_TF.float()) * up_TF.float()).to(up_TF.dtype)


@lru_cache(maxsize=8)
def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(kernel, dynamic=True)
