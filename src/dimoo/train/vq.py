"""Train a VQ tokenizer for pictures: a `diffusers.VQModel` whose codes are what the transformer reads and writes.

In: a source of pictures (seed -> uint8 (H, W, 3)), every one fresh. Out: a `VQModel` that `from_pretrained` loads,
`metrics.jsonl`, a grid of originals over reconstructions, and the state to continue from.

The network never works at full resolution. Space goes to depth first (128 x 128 x 3 becomes 32 x 32 x 48 for
patch 4) and comes back last; the patch is not in the config but follows from it: isqrt(in_channels / 3).

One step:
1. encode, and put the latents on the unit sphere; for the first `continuous_steps`, go on with these;
2. each latent takes the code of greatest cosine, and codes follow their latents (see `codebook`);
3. the decoder sees the code, the encoder gets its gradient straight through [van den Oord 2017, eq. 3];
4. loss = L1 + L2 + edges + commitment, and where pictures come with labels the cross-entropy of what a small
   network reads from the codes (see `vq_semantics`); AdamW; an average of the weights is kept, and is what ships.

With `decoder_only`, a finished tokenizer keeps its encoder and codes while its decoder goes on learning: a
transformer may meanwhile be trained on the codes.

Progress is a share of the time or the steps allowed, whichever is further, so a schedule ends on a shared machine
as well. Everything random is drawn from (seed, step): a resumed run continues exactly.

Shape legend: B pictures, H W pixels, R C rows and columns of codes, Z = B x R x C, E size of a code, K codebook.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import VQModel
from PIL import Image
from torch import Tensor

from dimoo.train.codebook import CodebookState, follow, nearest_codes, revive, start_codebook
from dimoo.train.recogniser import loss_of
from dimoo.train.vq_model import (
    Pictures,
    VqShape,
    build_vq,
    decode_codes,
    encode_codes,
    pairs_grid,
    patch_of,
    psnr,
    shipped,
    to_patches,
    whiten_latents,
)
from dimoo.train.vq_semantics import LabelledSource, PlaceReader

logger = logging.getLogger(__name__)
Source = Callable[[int], Pictures]
Batch = tuple[Pictures, np.ndarray[Any, np.dtype[np.int64]] | None]


@dataclass(frozen=True, kw_only=True)
class VqTraining:
    """The run. It ends after `minutes` of training or `steps`, whichever comes first."""

    minutes: float = 50.0
    steps: int = 1_000_000
    batch: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    l1: float = 1.0
    l2: float = 4.0
    edge: float = 1.0
    commitment: float = 0.25
    reading: float = 0.03
    continuous_steps: int = 150
    code_decay: float = 0.99
    idle_steps: int = 150
    revive_until: float = 0.9
    average_decay: float = 0.998
    seed: int = 0
    log_seconds: float = 20.0
    measure_seconds: float = 120.0
    save_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Everything a run needs to continue; `average` holds the shipped weights by name. `reader`: see vq_semantics."""

    vq: VQModel
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    codebook: CodebookState | None
    reader: PlaceReader | None
    step: int
    seconds: float


def picture_losses(rebuilt: Tensor, patches: Tensor, *, patch: int) -> dict[str, Tensor]:
    """L1, L2 and the L1 of horizontal and vertical differences, at full resolution."""
    wrong_B3HW = F.pixel_shuffle(rebuilt.float() - patches, patch)
    edges = wrong_B3HW.diff(dim=-1).abs().mean() + wrong_B3HW.diff(dim=-2).abs().mean()
    return {"l1": wrong_B3HW.abs().mean(), "l2": wrong_B3HW.square().mean(), "edge": edges}


def learning_rate_at(run: VqTraining, *, step: int, progress: float) -> float:
    """Linear warm-up in steps, then a cosine to nothing in progress (0 to 1)."""
    warm = min(1.0, (step + 1) / run.warmup_steps)
    return run.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def start(
    shape: VqShape,
    run: VqTraining,
    source: Source,
    *,
    begin: VQModel | None = None,
    decoder_only: bool = False,
    reader: PlaceReader | None = None,
) -> RunState:
    """A fresh run, or one that goes on from the weights and codes of `begin`."""
    torch.manual_seed(run.seed)
    book = None
    if begin is None:
        vq = build_vq(shape)
        whiten_latents(vq, np.stack([source(2**40 + i) for i in range(256)]))
    else:
        vq = shipped(begin, {})
        vq.quantize.requires_grad_(False)
        book = None if decoder_only else codebook_of(vq, run)
    if decoder_only:
        vq.encoder.requires_grad_(False)
        vq.quant_conv.requires_grad_(False)
    vq = vq.to(memory_format=torch.channels_last)
    moved = [*learned_weights(vq).values(), *(reader.parameters() if reader else ())]
    optimizer = torch.optim.AdamW(
        moved, lr=run.learning_rate, betas=(0.9, 0.99), weight_decay=run.weight_decay, fused=True
    )
    average = {name: value.detach().clone() for name, value in learned_weights(vq).items()}
    return RunState(vq=vq, average=average, optimizer=optimizer, codebook=book, reader=reader, step=0, seconds=0.0)


def codebook_of(vq: VQModel, run: VqTraining) -> CodebookState:
    """Statistics to go on from, as if every code had been used alike."""
    codes_KE = F.normalize(vq.quantize.embedding.weight.detach().float(), dim=-1)
    counts_K = torch.full((len(codes_KE),), 64 * run.batch / len(codes_KE))
    idle_K = torch.zeros(len(codes_KE), dtype=torch.long)
    return CodebookState(codes_KE=codes_KE, sums_KE=codes_KE * counts_K[:, None], counts_K=counts_K, idle_K=idle_K)


def learned_weights(vq: VQModel) -> dict[str, Tensor]:
    """What the optimizer moves, by name."""
    return {name: value for name, value in vq.named_parameters() if value.requires_grad}


def only_decoder(vq: VQModel) -> bool:
    """Whether encoder and codes stay as they are."""
    return not vq.quant_conv.weight.requires_grad


def resume(path: Path, fresh: RunState) -> RunState:
    """The run saved at `path`, or the fresh one where there is none."""
    if not path.exists():
        return fresh
    saved = torch.load(path, weights_only=True)
    fresh.vq.load_state_dict(saved["vq"])
    fresh.optimizer.load_state_dict(saved["optimizer"])
    book = None if saved["codebook"] is None else CodebookState(**saved["codebook"])
    if fresh.reader is not None:
        fresh.reader.load_state_dict(saved["reader"])
    return replace(fresh, average=saved["average"], codebook=book, step=saved["step"], seconds=saved["seconds"])


def save(state: RunState, path: Path) -> None:
    """Write the state so that a kill at any moment leaves the old or the new one whole."""
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "vq": state.vq.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "average": state.average,
            "codebook": None if state.codebook is None else vars(state.codebook),
            "reader": None if state.reader is None else state.reader.state_dict(),
            "step": state.step,
            "seconds": state.seconds,
        },
        partial,
    )
    partial.replace(path)


def unit_latents(vq: VQModel, patches: Tensor) -> Tensor:
    """Latents (B, R, C, E) of length one, in float32, from a bf16 encoder."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = vq.quant_conv(vq.encoder(patches))
    return F.normalize(latents.float().permute(0, 2, 3, 1), dim=-1)


def quantise(
    state: RunState, run: VqTraining, patches: Tensor, *, progress: float
) -> tuple[Tensor, CodebookState | None, dict[str, Tensor]]:
    """What the decoder sees (B, R, C, E), the codebook's next state, and the commitment where there is one."""
    vq, book = state.vq, state.codebook
    if only_decoder(vq):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents = vq.encode(patches).latents
        return vq.quantize(latents.float())[0].permute(0, 2, 3, 1), None, {}
    units_BRCE = unit_latents(vq, patches)
    if book is None:
        return units_BRCE, None, {}
    units_ZE = units_BRCE.detach().flatten(0, 2)
    ids_Z = nearest_codes(units_ZE, book.codes_KE)
    codes_BRCE = book.codes_KE[ids_Z].view_as(units_BRCE)
    commitment = (units_BRCE - codes_BRCE).square().sum(-1).mean()
    after = follow(book, units_ZE, ids_Z, decay=run.code_decay)
    if progress < run.revive_until:
        generator = torch.Generator().manual_seed(run.seed * 1_000_003 + state.step)
        after = revive(after, units_ZE, ids_Z, idle_steps=run.idle_steps, generator=generator)
    vq.quantize.embedding.weight.copy_(after.codes_KE)
    return units_BRCE + (codes_BRCE - units_BRCE).detach(), after, {"commitment": commitment}


def advance(state: RunState, run: VqTraining, batch: Batch) -> tuple[RunState, dict[str, Tensor]]:
    """One step on a batch: the next state and the measures of this one."""
    pictures, labels_BS3 = batch
    vq = state.vq
    progress = max(state.seconds / (60 * run.minutes), state.step / run.steps)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(run, step=state.step, progress=progress)
    patch = patch_of(vq)
    patches = to_patches(pictures, patch=patch)
    seen_BRCE, book, measures = quantise(state, run, patches, progress=progress)
    with torch.autocast("cpu", torch.bfloat16):
        rebuilt = vq.decoder(vq.post_quant_conv(seen_BRCE.permute(0, 3, 1, 2)))
    measures |= picture_losses(rebuilt, patches, patch=patch)
    if state.reader is not None and labels_BS3 is not None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = state.reader(seen_BRCE.permute(0, 3, 1, 2))
        measures["reading"] = loss_of(logits, torch.from_numpy(labels_BS3), smoothing=0.0)
    weights = {"reading": run.reading, "l1": run.l1, "l2": run.l2, "edge": run.edge, "commitment": run.commitment}
    loss = torch.stack([weights[name] * value for name, value in measures.items()]).sum()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    learned = list(learned_weights(vq).values())
    norm = torch.nn.utils.clip_grad_norm_([*learned, *(state.reader.parameters() if state.reader else ())], run.clip)
    state.optimizer.step()
    decay = min(run.average_decay, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(list(state.average.values()), [value.data for value in learned], 1 - decay)
    measures |= {"loss": loss, "gradient_norm": norm}
    return replace(state, codebook=book, step=state.step + 1), {n: v.detach() for n, v in measures.items()}


def batches(source: Source, labelled: LabelledSource | None, *, batch: int, first_step: int) -> Generator[Batch]:
    """Fresh pictures for ever, seed = step * batch + index, one batch ahead of the caller."""

    def make(step: int) -> Batch:
        seeds = range(step * batch, (step + 1) * batch)
        if labelled is None:
            return np.stack([source(seed) for seed in seeds]), None
        pictures, labels = zip(*(labelled(seed) for seed in seeds), strict=True)
        return np.stack(pictures), np.stack(labels)

    with ThreadPoolExecutor(1) as worker:
        ahead = worker.submit(make, first_step)
        for step in itertools.count(first_step + 1):
            ready, ahead = ahead, worker.submit(make, step)
            yield ready.result()


def with_codebook(state: RunState, run: VqTraining, source: Source) -> RunState:
    """The state with a codebook made from the latents of a thousand fresh pictures."""
    units = []
    for i in range(0, 1024, 64):
        pictures = np.stack([source(2**40 + i + j) for j in range(64)])
        with torch.no_grad():
            units.append(unit_latents(state.vq, to_patches(pictures, patch=patch_of(state.vq))).flatten(0, 2))
    codes = state.vq.quantize.n_e
    generator = torch.Generator().manual_seed(run.seed)
    return replace(state, codebook=start_codebook(torch.cat(units), codes=codes, rounds=5, generator=generator))


def measure(vq: VQModel, pictures: Pictures, *, grid: Path) -> dict[str, float]:
    """PSNR and use of the codebook over held-out pictures; the first 32 and their reconstructions go to `grid`."""
    codes_BRC = torch.cat([encode_codes(vq, pictures[i : i + 64]) for i in range(0, len(pictures), 64)])
    rebuilt = np.concatenate([decode_codes(vq, part) for part in codes_BRC.split(64)])
    share_K = torch.bincount(codes_BRC.flatten(), minlength=vq.quantize.n_e).float() / codes_BRC.numel()
    Image.fromarray(pairs_grid(pictures[:32], rebuilt[:32])).save(grid)
    return {
        "psnr": psnr(pictures, rebuilt),
        "codes_used": float((share_K > 0).sum()),
        "perplexity": float(torch.special.entr(share_K).sum().exp()),
    }


def train(
    shape: VqShape,
    run: VqTraining,
    source: Source,
    *,
    folder: Path,
    held_out: Pictures,
    begin: VQModel | None = None,
    decoder_only: bool = False,
    reader: PlaceReader | None = None,
    labelled: LabelledSource | None = None,
    stop_at: int | None = None,
) -> RunState:
    """Train, or go on training, with the state, the metrics and the grid in `folder`; the state at the end.

    With `begin` and `decoder_only` the codes of pictures stay what they are. `reader` and `labelled` go together.
    `stop_at` breaks off at a step without changing the schedule; the next call goes on from there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = resume(
        folder / "state.pt", start(shape, run, source, begin=begin, decoder_only=decoder_only, reader=reader)
    )
    begun, before = time.monotonic(), state.seconds
    last = {"log": (begun, state.step), "measure": (begun, state.step), "save": (begun, state.step)}

    def due(name: str, seconds: float) -> bool:
        return time.monotonic() - last[name][0] >= seconds

    def record(measures: dict[str, float]) -> None:
        line = {"step": state.step, "minutes": round(state.seconds / 60, 2), **measures}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({k: round(v, 5) for k, v in line.items()}) + "\n")
        logger.info("%s", " ".join(f"{k} {v:.5g}" for k, v in line.items()))

    stream = batches(source, labelled, batch=run.batch, first_step=state.step)
    end = run.steps if stop_at is None else min(stop_at, run.steps)
    while state.step < end and state.seconds < 60 * run.minutes:
        if state.codebook is None and state.step >= run.continuous_steps and not only_decoder(state.vq):
            state = with_codebook(state, run, source)
        state, measures = advance(state, run, next(stream))
        state = replace(state, seconds=before + time.monotonic() - begun)
        if due("log", run.log_seconds):
            now, (then, step) = time.monotonic(), last["log"]
            speed = run.batch * (state.step - step) / (now - then)
            record({n: float(v) for n, v in measures.items()} | {"pictures_per_second": speed})
            last["log"] = (now, state.step)
        if due("measure", run.measure_seconds):
            record(measure(shipped(state.vq, state.average), held_out, grid=folder / "grid.png"))
            last["measure"] = (time.monotonic(), state.step)
        if due("save", run.save_seconds):
            save(state, folder / "state.pt")
            last["save"] = (time.monotonic(), state.step)
    stream.close()
    save(state, folder / "state.pt")
    record(measure(shipped(state.vq, state.average), held_out, grid=folder / "grid.png"))
    return state
