"""Weights of a block a second time, in the layout in which oneDNN multiplies fastest: for steps on a CPU.

The operators are those that torch's compiler takes for frozen weights (`torch.ops.mkldnn`, not public); SiLU, the
gate's product and the residual sum are fused in. They keep no gradients, and know nothing of weights that change
later: `of_now` tells.

Shapes: M rows, D width, F inner width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dimoo.model.quantise import is_quantised

if TYPE_CHECKING:
    from dimoo.model.transformer import Block


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN is there, and for weights of this kind: float32, or bfloat16 where the CPU has it. Tried on x86
    only, so not through the Arm Compute Library."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if torch.ops.mkldnn._is_mkldnn_acl_supported():
        return False
    half = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return half or weight.dtype == torch.float32


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedBlock:
    """The packed matrices of a block, and the state of the weights that they were made of."""

    qkv: Tensor
    attention_out: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    state: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, block: Block) -> PackedBlock | None:
        """None where this machine or these weights can't be packed."""
        linears = _linears(block)
        if any(is_quantised(linear) or not can_pack(linear.weight) for linear in linears):
            return None
        gate, up = block.gate_up.weight.chunk(2)
        qkv, attention_out, down = (linear.weight for linear in (block.qkv, block.attention_out, block.down))
        return cls(
            qkv=_pack(qkv),
            attention_out=_pack(attention_out),
            gate=_pack(gate),
            up=_pack(up),
            down=_pack(down),
            state=_state(block),
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copies and pickles of a block are not packed: oneDNN's tensors can't be copied."""
        return type(None), ()

    def of_now(self, block: Block) -> PackedBlock | None:
        """None where the block's weights are no longer those that were packed (changes through `.data` go unseen)."""
        return self if self.state == _state(block) else None

    def heads(self, x_MD: Tensor) -> Tensor:
        """Queries, keys, values of normed rows."""
        return _product(x_MD, self.qkv)

    def attended(self, attended_MD: Tensor, x_MD: Tensor) -> Tensor:
        """x + the output projection of what was attended to."""
        return _product_and(attended_MD, self.attention_out, "add", x_MD)

    def mlp(self, x_MD: Tensor) -> Tensor:
        """down(silu(gate) * up) of normed rows."""
        gate_MF = _product(x_MD, self.gate, then="swish")
        return _product(_product_and(x_MD, self.up, "mul", gate_MF), self.down)


def _product(x: Tensor, packed: Tensor, *, then: str = "none") -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, then, [], "")
    return out


def _product_and(x: Tensor, packed: Tensor, how: str, other: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, packed, None, how)
    return out


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return packed


def _linears(block: Block) -> tuple[nn.Linear, ...]:
    return (block.qkv, block.attention_out, block.gate_up, block.down)


def _state(block: Block) -> tuple[tuple[int, int], ...]:
    weights = [linear.weight for linear in _linears(block)]
    return tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
