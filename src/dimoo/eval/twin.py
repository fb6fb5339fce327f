"""The slow twin: the authors' algorithm ported plainly, the oracle and the baseline of every fast path.

In: our weights (split) or tensors under the authors' names; guided pages, settings and a generator as the samplers
take them. Out: the ids at a page's writable positions, id for id what `fill_image` and `fill_text` give.

It shares no code with `model/` and `sampling/`, and keeps the waste of the released code, no more and no less:
    1. one page at a time, one forward pass a branch, ids to a list and back at each
    2. logits of the full vocabulary at every position, sliced afterwards
    3. a float bias (1, 1, L, L) built each pass, cast in each block if the dtype asks for it, never used
    4. separate projections; norms and rotation as plain float32 operations
    5. ML-Cache with keys from before the rotation and the logits of every position over the full vocabulary
    6. for text a float64 softmax over sequence x vocabulary, and every step, since the released early stop never works
       (it looks for an id that trained answers never hold); `TextSettings.early_stop` ends an answer all the same

Noise is drawn from the generator in the order of `sampling/choose.py`: ids first, then scores.

Shapes: L page length, D width, N heads, G key/value heads, H head size, V ids, M masked positions, K image codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo.model.checkpoint import authors_parts
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.page.page import Page
from dimoo.sampling.guidance import Guided
from dimoo.sampling.policies import MLCache
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.vocab import Vocab


@dataclass(eq=False)
class Store:
    """What ML-Cache keeps of one branch: keys (before rotation) and values of each layer, logits (1, L, V)."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    logits: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Twin:
    """The backbone under the authors' weight names (without `model.transformer.`) and the loops around it."""

    config: ModelConfig
    weights: Mapping[str, Tensor]
    cos_LH: Tensor
    sin_LH: Tensor

    @classmethod
    def from_model(cls, model: Transformer) -> Twin:
        """The twin of a loaded backbone; its merged weights are split, not copied."""
        parameters = dict(model.named_parameters())
        weights: dict[str, Tensor] = {}
        for ours, parts in authors_parts(model.config).items():
            pieces = parameters[ours].detach().split([part.rows for part in parts])
            weights |= {part.name: piece for part, piece in zip(parts, pieces, strict=True)}
        return cls.from_weights(model.config, weights)

    @classmethod
    def from_weights(cls, config: ModelConfig, weights: Mapping[str, Tensor], *, longest: int = 16384) -> Twin:
        """The twin of tensors under the authors' full names; `longest` is the length of the rotary table."""
        short = {name.removeprefix("model.transformer."): value for name, value in weights.items()}
        device = short["wte.weight"].device
        frequency = 1.0 / config.rope_theta ** (
            torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32) / config.head_dim
        )
        angles = torch.outer(torch.arange(longest, device=device, dtype=torch.float32), frequency)
        angles = torch.cat((angles, angles), dim=-1)
        return cls(config, short, angles.cos(), angles.sin())

    @torch.inference_mode()
    def logits(self, ids_L: Tensor, *, store: Store | None = None, rows: Tensor | None = None) -> Tensor:
        """Logits (1, L, V) of one page. With a store, `rows` (bool, L) are computed and the others taken from it;
        without `rows` everything is computed and kept."""
        listed = [ids_L.tolist()]
        device = self.weights["wte.weight"].device
        ids_1L = torch.tensor(listed, device=device)
        present_1L = torch.tensor([[1] * len(listed[0])], device=device)
        bias_11LL = (present_1L[:, :, None] & present_1L[:, None, :]).bool().unsqueeze(1).to(torch.float32)
        bias_11LL.masked_fill_(bias_11LL == 0.0, torch.finfo(torch.float32).min)

        x_1LD = F.embedding(ids_1L if rows is None else ids_1L[:, rows], self.weights["wte.weight"])
        for layer in range(self.config.n_layers):
            x_1LD = self._block(layer, x_1LD, bias_11LL, store, rows)
        x_1LD = self._norm(x_1LD, "ln_f")
        logits_1LV = F.linear(x_1LD, self.weights["wte.weight" if self.config.tied else "ff_out.weight"])
        if store is None:
            return logits_1LV
        if rows is None:
            store.logits = logits_1LV
        else:
            assert store.logits is not None, "a full pass came first"
            store.logits[:, rows] = logits_1LV
        return store.logits

    def _block(self, layer: int, x_1LD: Tensor, bias_11LL: Tensor, store: Store | None, rows: Tensor | None) -> Tensor:
        name = f"blocks.{layer}."
        normed_1LD = self._norm(x_1LD, f"{name}attn_norm")
        q, k, v = (F.linear(normed_1LD, self.weights[f"{name}{part}_proj.weight"]) for part in ("q", "k", "v"))
        if store is not None:
            k, v = _keep(store, layer, k, v, rows)
        x_1LD = x_1LD + F.linear(self._attend(q, k, v, bias_11LL, rows), self.weights[f"{name}attn_out.weight"])
        normed_1LD = self._norm(x_1LD, f"{name}ff_norm")
        gate, up = (F.linear(normed_1LD, self.weights[f"{name}{part}_proj.weight"]) for part in ("ff", "up"))
        return x_1LD + F.linear(F.silu(gate) * up, self.weights[f"{name}ff_out.weight"])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias_11LL: Tensor, rows: Tensor | None) -> Tensor:
        """Heads split, queries and keys rotated, grouped keys repeated, all positions seen; (1, rows, D)."""
        head = self.config.head_dim
        q_1NLH, k_1GLH, v_1GLH = (x.view(1, x.shape[1], -1, head).transpose(1, 2) for x in (q, k, v))
        cos_LH, sin_LH = self.cos_LH[: k.shape[1]], self.sin_LH[: k.shape[1]]
        k_1GLH = _rotate(k_1GLH, cos_LH, sin_LH)
        q_1NLH = _rotate(q_1NLH, cos_LH if rows is None else cos_LH[rows], sin_LH if rows is None else sin_LH[rows])
        if bias_11LL.dtype != q.dtype:  # cast and scanned for infinities, as released; attention never sees it
            cast_11LL = bias_11LL.to(q.dtype)
            cast_11LL.masked_fill_(cast_11LL == -torch.inf, torch.finfo(q.dtype).min)
        if self.config.n_kv_heads != self.config.n_heads:
            repeats = self.config.n_heads // self.config.n_kv_heads
            k_1GLH, v_1GLH = k_1GLH.repeat_interleave(repeats, dim=1), v_1GLH.repeat_interleave(repeats, dim=1)
        attended_1NLH = F.scaled_dot_product_attention(q_1NLH, k_1GLH, v_1GLH, attn_mask=None, is_causal=False)
        return attended_1NLH.transpose(1, 2).contiguous().view(1, q.shape[1], -1)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        wide = x.to(torch.float32)
        variance = wide.pow(2).mean(-1, keepdim=True)
        wide = wide * torch.rsqrt(variance + self.config.norm_eps)
        return self.weights[f"{name}.weight"] * wide.to(x.dtype)

    def picture(self, guided: Guided, settings: ImageSettings, generator: torch.Generator) -> Tensor:
        """A picture by parallel decoding: conditional and, unless its scale is 0, unconditional; no cache.
        Ids (N) at the writable positions; `settings.policy` is not looked at."""
        assert len(guided.active) <= 1, "a page with several contrasts is an edit"
        return _fill_picture(guided.branches, settings, generator, self._read, _one_scale(guided.scales))

    def picture_ml_cache(self, guided: Guided, settings: ImageSettings, generator: torch.Generator) -> Tensor:
        """The same with the authors' ML-Cache, whose numbers are `settings.policy`."""
        policy = settings.policy
        assert isinstance(policy, MLCache), f"the twin's cache is MLCache, got {policy}"
        assert len(guided.active) <= 1, "a page with several contrasts is an edit"
        warmup = int(settings.steps * policy.warmup_ratio)
        stores: list[Store] = []

        def low(store: Store) -> Tensor:
            assert store.logits is not None, "a full pass came first"
            largest_L = store.logits[0, :, guided.page.vocab.image_offset :].amax(dim=-1).float()
            return largest_L <= torch.quantile(largest_L, 1 - policy.cache_ratio)

        def read(bodies: list[Tensor], step: int) -> list[Tensor]:
            if step <= warmup or (step - warmup) % policy.refresh_interval == 0:
                stores[:] = [Store() for _ in bodies]
                return [self.logits(ids_L, store=store) for ids_L, store in zip(bodies, stores, strict=True)]
            both = zip(bodies, stores, strict=True)
            return [self.logits(ids_L, store=store, rows=low(store)) for ids_L, store in both]

        return _fill_picture(guided.branches, settings, generator, read, _one_scale(guided.scales))

    def _read(self, bodies: list[Tensor], step: int) -> list[Tensor]:
        return [self.logits(ids_L) for ids_L in bodies]

    def edit(self, guided: Guided, settings: ImageSettings, generator: torch.Generator) -> Tensor:
        """A picture with several contrasts, c + sum of s_i (c - u_i): every branch runs, whatever its scale."""

        def guide(logits: list[Tensor]) -> Tensor:
            guided_MK = logits[0]
            for other, (_, scale) in zip(logits[1:], guided.contrasts, strict=True):
                guided_MK = guided_MK + scale * (logits[0] - other)
            return guided_MK

        pages = (guided.page, *(page for page, _ in guided.contrasts))
        return _fill_picture(pages, settings, generator, self._read, guide)

    @torch.inference_mode()
    def text(self, guided: Guided, settings: TextSettings, generator: torch.Generator) -> Tensor:
        """An answer block by block, one branch, ids (N). The released early stop never works; with `early_stop` the
        twin ends where the text says `</answer>` and pads the rest, to be comparable."""
        assert not guided.active, "the twin's text has no guidance"
        assert settings.threshold is None and settings.entropy_bound is None, "the authors reveal an even share a step"
        page, vocab = guided.page, guided.page.vocab
        ids_L = page.ids.clone()
        slots = page.slots
        blocks = settings.blocks(len(slots))
        steps = settings.steps // blocks
        stop = vocab.image_offset if settings.candidates == "text" else vocab.size
        for block_slots in slots.split(settings.block_length):
            masked = int((ids_L[block_slots] == vocab.mask).sum())
            reveal = [masked // steps + (step < masked % steps) for step in range(steps)]
            for count in reveal:
                where_M = block_slots[ids_L[block_slots] == vocab.mask]
                if not len(where_M):
                    break
                logits_LV = self.logits(ids_L)[0]
                if settings.candidates == "text":
                    logits_LV[where_M, stop:] = -torch.inf
                    logits_LV[where_M[:, None], list(vocab.not_text)] = -torch.inf
                noisy_LV = logits_LV
                if settings.temperature > 0:
                    noisy_LV = logits_LV.clone().float()
                    noise_MV = _gumbel(noisy_LV[where_M, :stop], generator, settings.noise)
                    noisy_LV[where_M, :stop] = noisy_LV[where_M, :stop] / settings.temperature + noise_MV
                    _gumbel(noisy_LV[where_M, 0], generator, settings.noise)  # for scores, which text does not use
                best_L = noisy_LV.argmax(dim=-1)
                sure_L = logits_LV.to(torch.float64).softmax(dim=-1).gather(-1, best_L[:, None])[:, 0]
                now = where_M[sure_L[where_M].topk(count).indices.cpu()]
                ids_L[now] = best_L[now].cpu()
                if settings.early_stop and _ended(ids_L, slots, vocab):
                    return ids_L[slots]
        return ids_L[slots]


def _keep(store: Store, layer: int, k: Tensor, v: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Keys (before rotation) and values of every position; those of `rows` are overwritten."""
    if rows is None:
        store.keys.append(k)
        store.values.append(v)
        return k, v
    store.keys[layer][:, rows], store.values[layer][:, rows] = k, v
    return store.keys[layer], store.values[layer]


def _rotate(x_1NLH: Tensor, cos_LH: Tensor, sin_LH: Tensor) -> Tensor:
    wide = x_1NLH.float()
    first, second = wide.view(*wide.shape[:-1], 2, -1).unbind(-2)
    return (wide * cos_LH + torch.cat((-second, first), dim=-1) * sin_LH).to(x_1NLH.dtype)


def _gumbel(like: Tensor, generator: torch.Generator, noise: str) -> Tensor:
    """Gumbel noise of the shape and device of another tensor: in float32, or as released, bfloat16 throughout and a
    uniform of 1 becoming 0."""
    uniform = torch.rand(like.shape, generator=generator).to(like.device)
    if noise == "reference":
        uniform = uniform.to(torch.bfloat16)
        uniform[uniform == 1] = 0
        return -torch.log(-torch.log(uniform + 1e-20) + 1e-20)
    waiting = -torch.log(uniform.clamp(min=1e-20))
    return -torch.log(waiting.clamp(min=1e-20))


def _one_scale(scales: tuple[float, ...]) -> Callable[[list[Tensor]], Tensor]:
    """(1 + s) c - s u, or the one branch there is."""

    def guide(logits: list[Tensor]) -> Tensor:
        return logits[0] if not scales else (1 + scales[0]) * logits[0] - scales[0] * logits[1]

    return guide


@torch.inference_mode()
def _fill_picture(
    pages: tuple[Page, ...],
    settings: ImageSettings,
    generator: torch.Generator,
    read: Callable[[list[Tensor], int], list[Tensor]],
    guide: Callable[[list[Tensor]], Tensor],
) -> Tensor:
    """Steps of parallel decoding over the pages of one picture (conditional first); ids (N) at its writable slots."""
    assert settings.schedule == "cosine" and settings.top_k is None and settings.top_p is None, "as released"
    assert settings.choice_temperature in (None, settings.temperature), "as released: one temperature"
    vocab, slots = pages[0].vocab, [page.slots for page in pages]
    bodies = [page.ids.clone() for page in pages]
    reference = settings.noise == "reference" and settings.temperature > 0
    dtype = torch.bfloat16 if reference else torch.float32
    start = int((bodies[0][slots[0]] == vocab.mask).sum())
    for step in range(settings.steps):
        masked_N = bodies[0][slots[0]] == vocab.mask
        if not bool(masked_N.any()):
            break
        logits = [
            logits_1LV[0, where[masked_N].to(logits_1LV.device), vocab.image_offset :].to(dtype)
            for where, logits_1LV in zip(slots, read(bodies, step), strict=True)
        ]
        guided_MK = guide(logits)
        probability_MK = guided_MK.softmax(dim=-1)
        noisy_MK = guided_MK
        if settings.temperature > 0:
            noisy_MK = guided_MK / settings.temperature + _gumbel(guided_MK, generator, settings.noise)
        code_M = noisy_MK.argmax(dim=-1)
        score_M = probability_MK.gather(-1, code_M[:, None])[:, 0].clamp(min=1e-20).log()
        if settings.temperature > 0:
            score_M = score_M + settings.temperature * _gumbel(score_M, generator, settings.noise)
        left = _left(step, settings.steps, start, int(masked_N.sum()))
        stays_M = score_M < score_M.sort().values[left] if left else torch.zeros_like(score_M, dtype=torch.bool)
        new_M = torch.where(stays_M, vocab.mask, code_M + vocab.image_offset).cpu()
        for ids_L, where in zip(bodies, slots, strict=True):
            ids_L[where[masked_N]] = new_M
    return bodies[0][slots[0]]


def _left(step: int, steps: int, start: int, masked: int) -> int:
    """How many of `start` cells stay masked after this step; cosine and product in float32."""
    if step == steps - 1:
        return 0
    share = torch.cos(torch.tensor((step + 1) / steps, dtype=torch.float32) * math.pi * 0.5)
    return min(masked - 1, max(1, int((start * share).floor())))


def _ended(ids_L: Tensor, slots: Tensor, vocab: Vocab) -> bool:
    """Whether `</answer>` stands with everything before it filled; what follows is then padded in place."""
    answer = ids_L[slots].tolist()
    if vocab.answer_end not in answer or vocab.mask in answer[: answer.index(vocab.answer_end)]:
        return False
    ids_L[slots[answer.index(vocab.answer_end) + 1 :]] = vocab.answer_pad
    return True
