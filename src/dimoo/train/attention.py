"""Attention for training on a CPU, written out as two matrix products and a softmax.

The fused kernel saves memory that pages of a hundred ids do not need, and its backward pass is slow on a CPU: for 48
pages of 100 ids, 4 heads of 64, forward and backward take 20 ms a layer this way against 78 ms (one Zen 4 core, bf16).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class ExplicitAttention(TorchFunctionMode):
    """Within this context, plain scaled dot-product attention runs as `explicit_attention`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and len(args) == 3 and not kwargs:
            return explicit_attention(*args)
        return func(*args, **(kwargs or {}))


def explicit_attention(q_BNMH: Tensor, k_BNLH: Tensor, v_BNLH: Tensor) -> Tensor:
    """softmax(q k' / sqrt(H)) v, scores and softmax in the dtype that autocast gives them. Result (B, N, M, H)."""
    scores_BNML = (q_BNMH * q_BNMH.shape[-1] ** -0.5) @ k_BNLH.transpose(-1, -2)
    out: Tensor = scores_BNML.softmax(dim=-1).to(v_BNLH.dtype) @ v_BNLH
    return out
