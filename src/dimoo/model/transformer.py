"""The backbone: a LLaDA-style bidirectional transformer over packed pages.

One call serves full, cached, block and packed steps:

    hidden = model(ids_T, packing, rows=..., need=..., cache=...)     # final hidden states of the rows in `need`
    logits = model.logits(hidden, start, stop)                        # over the ids start..stop only

`rows` are the rows to compute (None: all), `cache` supplies keys and values of the others, and the last block runs
its queries, output and MLP only for `need`. Positions count from 0 within each page, attention stays within a page.

Shapes: T packed rows of all pages, M computed rows, D width, N heads, G key/value heads, H head size, V ids.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from itertools import accumulate
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimoo.model.cache import Cache
from dimoo.model.config import ModelConfig
from dimoo.model.quantise import is_quantised
from dimoo.page.batch import Packing, Rows

# The MLP takes so many rows at once, or as many as the model is wide: what lies inside it is widest of all. Pages of
# the small model's pictures stay whole (docs/log.md).
MLP_ROWS = 256
# A CPU's products in float32 are oneDNN's where it is the faster library by far, and torch's choice elsewhere.
ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
# The MLP's other products are turned, and fastest of a multiple of so many rows; of more than 512 it is all the same.
TILES = {torch.bfloat16: 16} if ONEDNN else {torch.bfloat16: 16, torch.float32: 8}
TURNED_ROWS = 512
FEW_ROWS = 64  # so many are gated into fresh memory: halves of a product have gaps, which the next one would copy out
ROTATED_AT_ONCE = 2**17  # numbers: half a megabyte of float32


class Transformer(nn.Module):
    """Embedding, blocks, final norm and head. Weights are merged: queries, keys, values in one; gate and up in one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = RMSNorm(config)
        self.head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)

    @property
    def head_weight(self) -> Tensor:
        """(V, D): the head, or the embedding where the two are tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def forward(
        self,
        ids_T: Tensor,
        packing: Packing,
        *,
        rows: Rows | None = None,
        need: Rows | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Final hidden states (len(need), D), after the last norm.

        ids_T: (T) int64 on the model's device. `need` must be among `rows`; None means all computed rows.
        A partial step (`rows` given) needs a cache that a full step has filled.
        """
        assert ids_T.shape == (packing.total,), "ids are packed one after the other"
        assert rows is None or (cache is not None and cache.filled), "a partial step needs a filled cache"
        positions_M = packing.positions.to(ids_T.device)
        if rows is not None:
            ids_T, positions_M = ids_T[rows.index], positions_M[rows.index]
        counts = packing.lengths if rows is None else rows.counts
        rotation = rotary_table(max(packing.lengths), self.config.head_dim, self.config.rope_theta, ids_T.device)
        rotation = (rotation[0][positions_M], rotation[1][positions_M])
        wanted = _within(need, rows)

        x_MD = self.embedding(ids_T)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            keep = wanted if layer == last else None
            x_MD = block(x_MD, rotation, packing, counts, keep=keep, rows=rows, layer=layer, cache=cache)
        hidden_MD: Tensor = self.final_norm(x_MD)
        if cache is not None:
            cache.store_hidden(hidden_MD, need if need is not None else rows, packing.total)
        return hidden_MD

    def compile_blocks(self) -> None:
        """Let torch compile what is done row by row, for any number of rows. Meant for accelerators: on a CPU it
        costs half a minute at the first steps, and each takes as long or longer (docs/log.md)."""
        for block in self.blocks:
            assert isinstance(block, Block), "the backbone is made of blocks"
            block.enter = torch.compile(block.enter, dynamic=True)  # type: ignore[method-assign]
            block.leave = torch.compile(block.leave, dynamic=True)  # type: ignore[method-assign]

    def logits(self, hidden_MD: Tensor, start: int, stop: int) -> Tensor:
        """Logits (M, stop - start) of the ids start..stop: the rest of the head is never touched."""
        return product(hidden_MD, self.head_weight[start:stop])


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        self.attention_norm = RMSNorm(config)
        self.qkv = nn.Linear(config.d_model, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=False)
        self.attention_out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.mlp_norm = RMSNorm(config)
        self.gate_up = nn.Linear(config.d_model, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(
        self,
        x_MD: Tensor,
        rotation: tuple[Tensor, Tensor],
        packing: Packing,
        counts: tuple[int, ...],
        *,
        keep: Rows | None,
        rows: Rows | None,
        layer: int,
        cache: Cache | None,
    ) -> Tensor:
        q_MNH, k_MGH, v_MGH = self.enter(x_MD, rotation, keep)
        if cache is not None:
            k_MGH, v_MGH = cache.store(layer, k_MGH, v_MGH, rows)
        if keep is not None:
            x_MD, counts = x_MD[keep.index], keep.counts
        attended_MD = attend(q_MNH, k_MGH, v_MGH, counts, packing.lengths)
        del q_MNH, k_MGH, v_MGH  # the MLP is where memory is highest
        return self.leave(x_MD, attended_MD)

    def leave(self, x_MD: Tensor, attended_MD: Tensor) -> Tensor:
        """What follows attention, row by row. Sums and products overwrite what is no longer needed: on a CPU fresh
        memory costs as much as what is computed into it."""
        x_MD = product(attended_MD, self.attention_out.weight).add_(x_MD)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():  # as many parts, as many programs to compile
            return self.mlp(x_MD).add_(x_MD)
        for part_MD in x_MD.split(max(MLP_ROWS, x_MD.shape[-1])):
            part_MD.add_(self.mlp(part_MD))
        return x_MD

    def mlp(self, x_MD: Tensor) -> Tensor:
        """down(silu(gate) * up), gate and up of the normed rows."""
        x_MD, training = self.mlp_norm(x_MD), torch.is_grad_enabled()
        tile = TILES.get(x_MD.dtype) if _as_on_a_cpu(x_MD, self.gate_up.weight) else None
        if tile is not None and len(x_MD) <= TURNED_ROWS:
            # the long side of each product first takes up to a fifth less time, and a ragged edge up to a fifth more
            spare = -len(x_MD) % tile if len(x_MD) > 8 else 0
            x_MD = F.pad(x_MD, (0, 0, 0, spare)) if spare else x_MD
            gate_FM, up_FM = F.linear(self.gate_up.weight, x_MD).chunk(2)
            return (self.down.weight @ F.silu(gate_FM, inplace=True).mul_(up_FM)).t()[: len(x_MD) - spare]
        gate_MF, up_MF = product(x_MD, self.gate_up.weight).chunk(2, dim=-1)
        fresh = training or len(x_MD) <= FEW_ROWS
        return product(F.silu(gate_MF, inplace=not fresh).mul_(up_MF), self.down.weight)

    def enter(self, x_MD: Tensor, rotation: tuple[Tensor, Tensor], keep: Rows | None) -> tuple[Tensor, Tensor, Tensor]:
        """What precedes attention, row by row: rotated queries (of `keep` rows only, if given) and keys, values."""
        x_MD = self.attention_norm(x_MD)
        if keep is None:
            heads_MNH = product(x_MD, self.qkv.weight).unflatten(-1, (-1, self.head_dim))
            rotated_MNH = rotate(heads_MNH[:, : self.heads + self.kv_heads], rotation)
            return rotated_MNH[:, : self.heads], rotated_MNH[:, self.heads :], heads_MNH[:, -self.kv_heads :]
        split = self.heads * self.head_dim
        if is_quantised(self.qkv):
            q_MD, kv_MD = product(x_MD, self.qkv.weight).tensor_split([split], dim=-1)
            q_MD = q_MD[keep.index]
        else:
            q_MD = product(x_MD[keep.index], self.qkv.weight[:split])
            kv_MD = product(x_MD, self.qkv.weight[split:])
        k_MGH, v_MGH = kv_MD.unflatten(-1, (-1, self.head_dim)).chunk(2, dim=1)
        q_MNH = q_MD.unflatten(-1, (-1, self.head_dim))
        kept = (rotation[0][keep.index], rotation[1][keep.index])
        return rotate(q_MNH, kept), rotate(k_MGH, rotation), v_MGH


def product(x_MK: Tensor, weight_NK: Tensor) -> Tensor:
    """x @ weight.T (M, N), as `F.linear`.

    On a CPU torch gives float32 to MKL, which keeps to AVX2 on processors that are not Intel's: oneDNN takes half the
    time where they have AVX-512, and as long on Intel's (docs/log.md). Its operator knows no gradients."""
    if ONEDNN and x_MK.dtype == torch.float32 and _as_on_a_cpu(x_MK, weight_NK):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x_MK, weight_NK, None, "none", [], "")
        return out
    return F.linear(x_MK, weight_NK)


def _as_on_a_cpu(x_MK: Tensor, weight_NK: Tensor) -> bool:
    """Whether what is faster on a CPU alone may be done: not for gradients, compilers and quantised weights."""
    watched = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return x_MK.is_cpu and not watched and type(weight_NK) in (Tensor, nn.Parameter)


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019), computed in float32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self.eps = config.norm_eps
        self.floor = torch.tensor(config.norm_eps, device="cpu")  # the same for `addcmul`

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)
        # on a CPU that is a dozen small kernels; from the vector's length it is five
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = torch.addcmul(self.floor, length, length, value=1 / x.shape[-1]).rsqrt_()
        return (wide * scale).mul_(self.weight).to(x.dtype)


@lru_cache(maxsize=8)
def rotary_table(length: int, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos (length, 1, H) and sin (length, 1, H / 2) in float32, half-rotation form (RoFormer, eq. 34; halves rather
    than pairs): the halves of cos are the same."""
    with torch.inference_mode(False), torch.no_grad():  # the table outlives the call: training may use it next
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
        angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), 1.0 / theta**exponent)[:, None]
        return torch.cat([angles, angles], dim=-1).cos(), angles.sin()


def rotate(x_MNH: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding in float32, given back in the input's dtype. `table`: cos (M, 1, H) and sin (M, 1, H / 2).

    Long inputs are overwritten on a CPU, a part at a time, so that what lies between stays in the processor's cache
    (docs/log.md)."""
    rows = max(1, ROTATED_AT_ONCE // prod(x_MNH.shape[1:]))
    whole = x_MNH.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
    if whole or len(x_MNH) <= rows:
        return _rotated(x_MNH, *table).to(x_MNH.dtype)
    for part_MNH, cos_M1H, sin_M1h in zip(*(tensor.split(rows) for tensor in (x_MNH, *table)), strict=True):
        part_MNH.copy_(_rotated(part_MNH, cos_M1H, sin_M1h))
    return x_MNH


def _rotated(x_MNH: Tensor, cos_M1H: Tensor, sin_M1h: Tensor) -> Tensor:
    wide_MNH, half = x_MNH.float(), sin_M1h.shape[-1]
    out_MNH = wide_MNH * cos_M1H
    out_MNH[..., :half].addcmul_(wide_MNH[..., half:], sin_M1h, value=-1)
    out_MNH[..., half:].addcmul_(wide_MNH[..., :half], sin_M1h)
    return out_MNH


def attend(q_MNH: Tensor, k_TGH: Tensor, v_TGH: Tensor, counts: tuple[int, ...], lengths: tuple[int, ...]) -> Tensor:
    """Attention page by page: counts[i] queries see the lengths[i] keys of their own page. Result (M, N * H).

    Pages of the same shape go through one call; no padding, so nothing to mask.
    """
    if k_TGH.shape[1] != q_MNH.shape[1]:
        groups = q_MNH.shape[1] // k_TGH.shape[1]
        k_TGH, v_TGH = k_TGH.repeat_interleave(groups, dim=1), v_TGH.repeat_interleave(groups, dim=1)
    if not len(q_MNH):
        return q_MNH.flatten(1)
    out: list[Tensor] = [q_MNH[:0].flatten(1)] * len(counts)
    for pages, queries, keys in _alike(counts, lengths):
        q, k, v = (_together(*part).transpose(1, 2) for part in ((q_MNH, queries), (k_TGH, keys), (v_TGH, keys)))
        result_BMD = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        if pages[-1] - pages[0] < len(pages):  # they lie one after the other
            out[pages[0]] = result_BMD.flatten(0, 1)
        else:
            for page, result_MD in zip(pages, result_BMD, strict=True):
                out[page] = result_MD
    return torch.cat(out) if len(out) > 1 else out[0]


Slices = tuple[slice, ...]


@lru_cache(maxsize=256)
def _alike(counts: tuple[int, ...], lengths: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], Slices, Slices], ...]:
    """Pages with as many queries and as many keys, group by group, and where the queries and the keys of each lie;
    pages without queries are in none."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for page, shape in enumerate(zip(counts, lengths, strict=True)):
        if shape[0]:
            alike[shape].append(page)
    queries, keys = (list(accumulate(sizes, initial=0)) for sizes in (counts, lengths))
    return tuple(
        (
            tuple(pages),
            tuple(slice(queries[page], queries[page + 1]) for page in pages),
            tuple(slice(keys[page], keys[page + 1]) for page in pages),
        )
        for pages in alike.values()
    )


def _together(part: Tensor, slices: Slices) -> Tensor:
    """Slices of one length as a batch (B, rows, ...); a view where they lie one after the other."""
    first, last = slices[0], slices[-1]
    if last.stop - first.start == len(slices) * (first.stop - first.start):
        return part[first.start : last.stop].view(len(slices), -1, *part.shape[1:])
    return torch.stack([part[one] for one in slices])


def _within(need: Rows | None, rows: Rows | None) -> Rows | None:
    """`need` as indices into the computed rows; None where it is all of them."""
    if need is rows:
        return None
    if need is None or rows is None:
        return need
    return Rows(torch.searchsorted(rows.index, need.index), need.counts)
