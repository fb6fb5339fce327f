"""What a run will cost, before any weight is loaded: parameters, memory, FLOPs, seconds (`dimoo info`).

In: a config, pages and settings. Out: a `Cost`. Nothing is estimated by a formula of its own: the samplers themselves
run, on a backbone whose weights have shapes and no numbers.

    1. `Weightless` is a backbone on torch's meta device that takes and gives what the real one does
    2. `Ledger` watches every operation: storages alive at a time, and FLOPs by the formulas of torch's flop counter
    3. where a sampler wants a number (an argmax, a probability, a largest logit) the ledger hands it a random one,
       so that schedule, guidance, cache policy and rows of a step are decided by the code that decides them for real

Cost is linear in the number of layers, so two shallow backbones are walked and the rest is extrapolated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dimoo.model.cache import Cache
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import ONEDNN, Transformer, rotary_table
from dimoo.page.batch import Packing, Rows
from dimoo.page.page import picture_page
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import fill_image
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.sampling.text import fill_text
from dimoo.tokenizers.image import vq_model
from dimoo.vocab import Vocab

aten = torch.ops.aten
PROMPT_IDS, EMPTY_IDS = 100, 14  # of a usual prompt, and of the unconditional one


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs of a whole run and the largest number of bytes alive at a time besides the weights (caches included)."""

    flops: int
    working_bytes: int

    def __add__(self, after: Cost) -> Cost:
        """One thing after the other."""
        return Cost(flops=self.flops + after.flops, working_bytes=max(self.working_bytes, after.working_bytes))


def sampling_cost(
    config: ModelConfig, guided: Sequence[Guided], settings: ImageSettings | TextSettings, dtype: torch.dtype
) -> Cost:
    """Cost of filling these pages together, of the backbone alone; FLOPs exactly, memory to a few per cent."""
    if config.n_layers <= 3:
        return _walk(config, guided, settings, dtype)
    two, three = (_walk(dataclasses.replace(config, n_layers=n), guided, settings, dtype) for n in (2, 3))
    more = config.n_layers - 3
    return Cost(
        flops=three.flops + more * (three.flops - two.flops),
        working_bytes=three.working_bytes + more * (three.working_bytes - two.working_bytes),
    )


def decoding_cost(vq_config: dict[str, Any], rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Cost:
    """Cost of turning rows x columns codes into pixels by a VQ model of this configuration."""
    with torch.device("meta"):
        vq = vq_model()(**{key: value for key, value in vq_config.items() if not key.startswith("_")}).to(dtype)
    latent = vq_config.get("vq_embed_dim") or vq_config["latent_channels"]
    with torch.inference_mode(), Ledger() as ledger:
        latents = torch.empty(1, latent, rows, columns, dtype=dtype, device="meta")
        decoded = F.pixel_shuffle(vq.decoder(vq.post_quant_conv(latents)), isqrt(vq_config["in_channels"] // 3))
        decoded.float()[0].clip(0, 1).mul(255).round().to(torch.uint8)  # as ImageTokenizer.decode ends
    return Cost(flops=ledger.flops, working_bytes=ledger.peak)


def picture_pages(vocab: Vocab, height: int, width: int, factor: int, *, scale: float = 4.0) -> Guided:
    """The pages of a picture of height x width pixels with a prompt of usual length."""
    blank = torch.full((height // factor, width // factor), -1)
    page, empty = (picture_page([0] * length, blank, vocab) for length in (PROMPT_IDS, EMPTY_IDS))
    return Guided(page, ((empty, scale),))


def named_vocab(config: ModelConfig) -> Vocab:
    """A vocabulary for a size that comes without a checkpoint: 8,192 image codes, or half of a small one."""
    codes = 8192 if config.vocab_size > 9000 else config.vocab_size // 2
    return Vocab(
        size=config.vocab_size,
        image_offset=config.vocab_size - codes,
        mask=1,
        newline=2,
        boi=3,
        eoi=4,
        uncondition=5,
        answer_start=6,
        answer_end=7,
        answer_pad=8,
    )


def weight_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    return config.parameters * dtype.itemsize


def vq_factor(vq_config: dict[str, Any]) -> int:
    """Pixels a side of a code, as `ImageTokenizer` has it."""
    return int(isqrt(vq_config["in_channels"] // 3) * 2 ** (len(vq_config["block_out_channels"]) - 1))


def measure_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a matrix product on this machine now, the best of three of about a hundredth of a second."""
    side = 1024 if device.type == "cpu" else 8192
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        float((left @ right)[0, 0])  # reading a number waits for the device
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


EFFICIENCY = 0.5  # of a plain product's speed that a whole run reaches: elementwise work, small shapes, attention


def expected_seconds(cost: Cost, speed: float) -> float:
    return cost.flops / (EFFICIENCY * speed)


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on a device, container limits included; None where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    with contextlib.suppress(OSError, ValueError):
        found.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(found)) if found else None


class Ledger(TorchDispatchMode):
    """Watches the operations inside: `alive` bytes of storages now, `peak` of them, `flops`.

    Storages that exist before (weights, inputs) are not counted. With `id_`, a run without weights: what reduces the
    vocabulary to a number a row gives random numbers on the host instead (`id_` where it is an id), and attention
    keeps no scores, as fused attention does.
    """

    def __init__(self, *, id_: int | None = None) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self.flops = 0
        self.id = id_
        self._live: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        out = self._run(func, args, kwargs)
        for tensor in _tensors((out,)):
            storage = tensor.untyped_storage()
            if storage._cdata not in given:
                self._count(storage)
        return out

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self.id is not None and (stand_in := _stand_in(func, args, self.id)) is not None:
            return stand_in
        if self.id is not None and func is aten.scaled_dot_product_attention.default:
            with self:
                return aten._scaled_dot_product_flash_attention.default(*args[:3])[0]
        if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            with self:  # what is made of other operations is watched one by one
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if ONEDNN and func._overloadpacket is torch.ops.mkldnn._linear_pointwise:
            self.flops += 2 * args[0].numel() * len(args[1])  # torch's counter does not know it
        elif func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._live:
            return
        self._live.add(storage._cdata)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._live.discard(key)
        self.alive -= size


def _stand_in(func: Any, args: Any, id_: int) -> Tensor | None:
    """What a run without weights puts for (rows, ids) reduced to numbers, and for noise over all ids."""
    if func is aten.rand.generator:
        return torch.empty(args[0], device="meta") if len(args[0]) == 2 else None
    if not args or not isinstance(args[0], Tensor) or not args[0].is_meta:
        return None
    if func is aten.gather.default:
        return torch.rand(args[2].shape)
    if args[0].ndim == 2 and func in (aten.amax.default, aten.sum.dim_IntList):
        return torch.rand(args[0].shape[:1])
    if args[0].ndim == 2 and func is aten.argmax.default:
        return torch.full(args[0].shape[:1], id_)
    return None


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list | dict):
            yield from _tensors(value)


class Weightless:
    """A backbone on the meta device that speaks with host tensors, as the samplers expect of a model on the CPU."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        self.config, self.dtype, self.device = config, dtype, torch.device("cpu")
        with torch.device("meta"):
            self.model = Transformer(config).to(dtype).eval()

    def __call__(
        self,
        ids_T: Tensor,
        packing: Packing,
        *,
        rows: Rows | None = None,
        need: Rows | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        meta = torch.device("meta")
        rows, need = (None if some is None else some.to(meta) for some in (rows, need))
        hidden: Tensor = self.model(ids_T.to(meta), packing, rows=rows, need=need, cache=cache)
        return hidden

    def logits(self, hidden_MD: Tensor, start: int, stop: int) -> Tensor:
        return self.model.logits(hidden_MD, start, stop)


def _walk(
    config: ModelConfig, guided: Sequence[Guided], settings: ImageSettings | TextSettings, dtype: torch.dtype
) -> Cost:
    """The samplers run on no weights."""
    model = cast(Transformer, Weightless(config, dtype))
    generators = [torch.Generator().manual_seed(index) for index in range(len(guided))]
    pad = guided[0].page.vocab.answer_pad
    rotary_table.cache_clear()  # a table kept from another walk would not be counted in this one
    with torch.inference_mode(), Ledger(id_=pad) as ledger:
        if isinstance(settings, ImageSettings):
            _exhaust(fill_image(model, guided, settings, generators))
        else:
            _exhaust(fill_text(model, guided, settings, generators))
    return Cost(flops=ledger.flops, working_bytes=ledger.peak)


def _exhaust(steps: Iterator[Any]) -> None:
    for _ in steps:
        pass
