"""The training loop: pages in, a model that fills hidden positions out.

One step:
1. a batch of fully known pages; of each, some writable positions are hidden (`diffusion.corrupt`)
2. one forward pass over the packed pages, final states at hidden positions only
3. cross-entropy at hidden positions: image codes over the image codes, text over the text ids, no others
4. weighted mean, gradient clipped, AdamW; the average of the weights follows

Everything random is drawn from (seed, step), and the stream of pages says where it stands: a resumed run goes on with
the same losses as one that was never interrupted.

Shapes: T packed rows of all pages, M hidden positions, D width.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo.diffusion.corrupt import corrupt
from dimoo.model.transformer import Transformer
from dimoo.page.batch import Packing, Rows, pack
from dimoo.page.page import Page
from dimoo.train.checkpoints import Run, save
from dimoo.train.config import Dtype, TrainSettings, learning_rate_at
from dimoo.train.forward import hidden_states
from dimoo.train.metrics import Journal, Meter, ratio_bucket
from dimoo.train.team import Team
from dimoo.vocab import Vocab

log = logging.getLogger(__name__)
DTYPES: dict[Dtype, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A fully known page, the task that its loss is reported under, and how often it is hidden whole, where that is
    not the settings' `whole_share`."""

    page: Page
    task: str
    whole_share: float | None = None


Batch = tuple[Sequence[Example], dict[str, Any]]  # examples, and the state of the stream after them
Stream = Callable[[dict[str, Any] | None], Iterator[Batch]]
Look = Callable[[Transformer, int], Mapping[str, float]]  # measures of the averaged weights at a step


def train(run: Run, settings: TrainSettings, stream: Stream, *, folder: Path, look: Look, journal: Journal) -> Run:
    """Train until the settings say stop; state, metrics and whatever `look` writes go to `folder`.

    `stream(state)` yields batches from where `state` stands; `look` sees the averaged model now and then (samples,
    held-out losses, an export) and returns what is to be written down.
    """
    batches = stream(run.stream)
    team, meter = Team.join(), Meter()
    parameters = list(run.model.parameters())
    begun = logged = saved = looked = time.monotonic()
    if run.step >= settings.steps and team.leads:  # it may have been killed in its last look, after the state was saved
        journal.write(run.step, look(run.average.model, run.step))
    while run.step < settings.steps:
        _make_ready(run, settings)
        for part in range(settings.accumulate):
            examples, after = next(batches)
            seed = (settings.seed * 1_000_003 + run.step) * 64 + part
            hidden = hide(examples, torch.Generator().manual_seed(seed), settings=settings, team=team)
            loss, losses_M = hidden_loss(
                run.model, hidden, text_weight=settings.text_weight, dtype=DTYPES[settings.dtype], fuse=settings.fuse
            )
            (loss / settings.accumulate).backward()
            note(meter, hidden, losses_M, loss, members=team.size)
            run.pages += len(examples)
        over = settings.minutes is not None and time.monotonic() - begun > 60 * settings.minutes
        over = team.sum_gradients(parameters, pages=len(examples), stop=over and team.leads)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip, foreach=True)
        if not bool(torch.isfinite(norm)):
            raise RuntimeError(f"the gradient is not finite at step {run.step}; the last state on disk is sound")
        for optimizer in run.optimizers:
            optimizer.step()
        run.average.follow(run.model, run.step)
        meter.add("gradient_norm", float(norm))
        run.step, run.stream = run.step + 1, after

        now = time.monotonic()
        last = over or run.step >= settings.steps
        if team.leads:
            looks = last or now - looked > settings.look_seconds
            if looks or now - logged > settings.log_seconds:  # what was met before a look is not of the time after it
                journal.write(run.step, meter.read(now - logged) | {"pages": run.pages})
                logged = now
            if last or now - saved > settings.save_seconds:
                save(run, folder)
                saved = time.monotonic()
            if looks:
                journal.write(run.step, look(run.average.model, run.step))
                logged = looked = time.monotonic()
        if last:
            break
    return run


def _make_ready(run: Run, settings: TrainSettings) -> None:
    """No gradients, and the learning rates of this step."""
    for optimizer, scale in zip(run.optimizers, (1.0, settings.muon_scale), strict=False):
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(run.step, settings) * scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """This process's share of a batch with positions hidden: ids (T), packing, the hidden rows, and what stood there
    (M); and how many image codes and text ids are hidden in the whole batch."""

    ids_T: Tensor
    packing: Packing
    rows: Rows
    targets_M: Tensor
    ratios: tuple[float, ...]
    tasks: tuple[str, ...]
    vocab: Vocab
    hidden_codes: int
    hidden_text: int


def hide(
    examples: Sequence[Example],
    generator: torch.Generator,
    *,
    settings: TrainSettings | None = None,
    team: Team | None = None,
) -> Hidden:
    """Hide positions of every page and pack the pages, the shortest first, so that equal lengths stand together.

    Of a batch that a team shares, the pages of this process; all are hidden all the same, so that the lot falls alike.
    """
    team, settings = team or Team(), settings or TrainSettings()
    examples = sorted(examples, key=lambda example: len(example.page))
    corrupted = [
        corrupt(
            example.page,
            generator,
            schedule=settings.ratio,
            whole_share=settings.whole_share if example.whole_share is None else example.whole_share,
        )
        for example in examples
    ]
    vocab = examples[0].page.vocab
    codes = [
        int((example.page.ids[hidden] >= vocab.image_offset).sum())
        for example, (_, hidden, _) in zip(examples, corrupted, strict=True)
    ]
    total = sum(int(hidden.sum()) for _, hidden, _ in corrupted)
    examples, corrupted = examples[team.rank :: team.size], corrupted[team.rank :: team.size]
    ids_T, packing = pack([ids for ids, _, _ in corrupted])
    counts = tuple(int(hidden.sum()) for _, hidden, _ in corrupted)
    index_M = torch.cat([hidden for _, hidden, _ in corrupted]).nonzero().flatten()
    targets_M = torch.cat([example.page.ids for example in examples])[index_M]
    return Hidden(
        ids_T=ids_T,
        packing=packing,
        rows=Rows(index_M, counts),
        targets_M=targets_M,
        ratios=tuple(share for _, _, share in corrupted),
        tasks=tuple(example.task for example in examples),
        vocab=vocab,
        hidden_codes=sum(codes),
        hidden_text=total - sum(codes),
    )


def hidden_loss(
    model: Transformer,
    hidden: Hidden,
    *,
    text_weight: float = 1.0,
    dtype: torch.dtype = torch.float32,
    fuse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The weighted mean (scalar), and the cross-entropy (M, float32, detached) of every hidden position.

    Of a shared batch this process's part of the mean: the parts sum up to it.
    An image code competes with image codes only, a text id with text ids only: the samplers never ask for others.
    """
    states_MD = hidden_states(model, hidden.ids_T, hidden.packing, hidden.rows, dtype=dtype, fuse=fuse)
    head_VD = model.head_weight.to(dtype)
    offset, size = hidden.vocab.image_offset, hidden.vocab.size
    code_M = hidden.targets_M >= offset
    losses_M = torch.zeros(len(hidden.targets_M))
    total = torch.zeros(())
    weight = hidden.hidden_codes + text_weight * hidden.hidden_text
    for where_M, start, stop, share in ((code_M, offset, size, 1.0), (~code_M, 0, offset, text_weight)):
        if not bool(where_M.any()):
            continue
        logits_MV = F.linear(states_MD[where_M], head_VD[start:stop])
        part = F.cross_entropy(logits_MV.float(), hidden.targets_M[where_M] - start, reduction="none")
        losses_M[where_M] = part.detach()
        total = total + share * part.sum()
    return total / weight, losses_M


def note(meter: Meter, hidden: Hidden, losses_M: Tensor, loss: Tensor, *, members: int = 1) -> None:
    """Add a batch's losses to the meter: by task, and of pictures drawn from words by how much was hidden.

    Of a team's batch only this member's share is seen; the others are taken to be like it.
    """
    meter.add("loss", float(loss.detach()) * members)
    meter.count("pages", len(hidden.tasks) * members)
    meter.count("ids", hidden.packing.total * members)
    sums = [float(part.sum()) for part in losses_M.split(list(hidden.rows.counts))]
    for task, ratio, total, count in zip(hidden.tasks, hidden.ratios, sums, hidden.rows.counts, strict=True):
        meter.add(f"loss/{task}", total, count)
        if task == "text_to_image":
            meter.add(f"loss/{task}/{ratio_bucket(ratio)}", total, count)
