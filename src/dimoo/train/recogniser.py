"""Train the judge's recogniser on scenes the renderer drew, as they are, damaged, and after VQ round trips.

In: a renderer (scene -> uint8 (128, 128, 3)) and a round trip of pictures. Out: a `Recogniser`.

1. A pool of scenes from training and evaluation splits alike (the judge must know held-out drawings too; seeds start
   at 2**31, so no scene of an evaluation occurs), and every drawing alone, small and large, since chance leaves some
   of the large ones out; each as drawn and, where there is a tokenizer, after a round trip.
2. One step: a batch of the pool, shifted by a few pixels, some blurred, tinted and noised; cross-entropies of size,
   concept and style.

Shape legend: B pictures, S = 9 places.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo.data.stickers.scenes import PLACES, Scene, Split, every_drawing, generator, sample_scene
from dimoo.eval.recogniser import SIZES, Logits, PlaceNet, Recogniser

logger = logging.getLogger(__name__)
Renderer = Callable[[Scene], np.ndarray]
RoundTrip = Callable[[np.ndarray], np.ndarray]
FIRST_SEED = 2**31  # below 2**32: NumPy takes a longer seed as two words, and (2, 2**32 + k) is then (2, k, 1)


@dataclass(frozen=True, kw_only=True)
class RecogniserTraining:
    """The run. `damaged` is the share of pictures blurred, tinted and noised."""

    steps: int = 2000
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.02
    damaged: float = 0.25
    shift: int = 2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Pictures uint8 (B, 128, 128, 3) and, for the nine places, indices (B, S, 3) of size, concept and style."""

    pictures: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """`stickers`: share of stickers with concept and style right; `concepts`: with the concept right; `scenes`: share
    of scenes with every sticker right and none spurious; `places`: share of places rightly taken or free."""

    stickers: float
    concepts: float
    scenes: float
    places: float


def draw_scenes(first: int, count: int, *, split: Split | None = None) -> list[Scene]:
    """Scenes of consecutive seeds; without a split, of both in turn; a tenth of them overlapping layers."""
    scenes = []
    for seed in range(first, first + count):
        chosen: Split = split or ("train" if seed % 2 else "eval")
        scenes.append(sample_scene(generator(seed, chosen), chosen, layered=split is None and seed % 10 == 0))
    return scenes


def label(scene: Scene, *, concepts: Sequence[str], styles: Sequence[str]) -> np.ndarray:
    """Indices (S, 3) of size, concept and style; zeros where nothing stands."""
    found = np.zeros((len(PLACES), 3), np.int64)
    places = list(PLACES)
    for sticker in scene.stickers:
        row = (SIZES.index(sticker.size), concepts.index(sticker.concept), styles.index(sticker.style))
        found[places.index(sticker.place)] = row
    return found


def examples(scenes: Sequence[Scene], render: Renderer, *, concepts: Sequence[str], styles: Sequence[str]) -> Examples:
    """Scenes as pictures with labels."""
    return Examples(
        pictures=np.stack([render(scene) for scene in scenes]),
        labels=np.stack([label(scene, concepts=concepts, styles=styles) for scene in scenes]),
    )


def make_pool(
    count: int,
    render: Renderer,
    round_trip: RoundTrip | None,
    *,
    concepts: Sequence[str],
    styles: Sequence[str],
    each: int = 0,
) -> Examples:
    """`count` scenes and every drawing alone, small and large, `each` times, as drawn; followed by the same after a
    round trip where there is one."""
    scenes = draw_scenes(FIRST_SEED, count) + every_drawing(np.random.default_rng(FIRST_SEED), each=each)
    drawn = examples(scenes, render, concepts=concepts, styles=styles)
    if round_trip is None:
        return drawn
    return Examples(
        pictures=np.concatenate([drawn.pictures, round_trip(drawn.pictures)]),
        labels=np.concatenate([drawn.labels, drawn.labels]),
    )


def damage(pixels: Tensor, *, shift: int, share: float, random: torch.Generator) -> Tensor:
    """Shift (B, 3, H, W) by up to `shift` px; blur, tint and noise the first `share` of the pictures."""
    height, width = pixels.shape[2:]
    top, left = torch.randint(0, 2 * shift + 1, (2,), generator=random).tolist()
    moved = F.pad(pixels, (shift,) * 4, mode="replicate")[:, :, top : top + height, left : left + width]
    whole, hurt = moved[round(len(moved) * share) :], moved[: round(len(moved) * share)]
    strength = torch.rand(len(hurt), 1, 1, 1, generator=random)
    blurred = F.avg_pool2d(F.pad(hurt, (2,) * 4, mode="replicate"), 5, stride=1)
    tint = (torch.rand(len(hurt), 3, 1, 1, generator=random) - 0.5) * 0.1
    noise = torch.randn(hurt.shape, generator=random) * 0.05
    hurt = (torch.lerp(hurt, blurred, strength) + tint + noise * (1 - strength)).clamp(0, 1)
    return torch.cat([hurt, whole])


def loss_of(logits: Logits, labels_BS3: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy of the size everywhere, and of concept and style where something stands; -1 means unknown."""
    there_BS = labels_BS3[..., 0] > 0
    known = (labels_BS3[..., 0] >= 0).sum().clamp_min(1)
    sizes = F.cross_entropy(logits.sizes.flatten(0, 1), labels_BS3[..., 0].flatten(), ignore_index=-1, reduction="sum")
    parts = [sizes / known]
    for scores, index in ((logits.concepts, 1), (logits.styles, 2)):
        total = F.cross_entropy(
            scores[there_BS], labels_BS3[there_BS][:, index], label_smoothing=smoothing, reduction="sum"
        )
        parts.append(total / there_BS.sum().clamp_min(1))
    return torch.stack(parts).sum()


def train_recogniser(
    run: RecogniserTraining,
    pool: Examples,
    *,
    concepts: Sequence[str],
    styles: Sequence[str],
    begin: Recogniser | None = None,
) -> Recogniser:
    """Train from scratch, or go on from `begin`; AdamW with a warm-up and a cosine."""
    torch.manual_seed(run.seed)
    random = torch.Generator().manual_seed(run.seed)
    net = copy.deepcopy(begin.net) if begin else PlaceNet(concepts=len(concepts), styles=len(styles))
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=run.learning_rate, weight_decay=run.weight_decay, fused=True)
    for step in range(run.steps):
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / run.steps))
        chosen = torch.randint(len(pool.labels), (run.batch,), generator=random).numpy()
        pixels = torch.from_numpy(pool.pictures[chosen]).permute(0, 3, 1, 2).float() / 255
        pixels = damage(pixels, shift=run.shift, share=run.damaged, random=random)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(pixels)
        loss = loss_of(logits, torch.from_numpy(pool.labels[chosen]), smoothing=run.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == run.steps - 1:
            logger.info("step %d loss %.4f", step, loss.item())
    return Recogniser(net, concepts=concepts, styles=styles)


def measure_accuracy(judge: Recogniser, pictures: np.ndarray, scenes: Sequence[Scene]) -> Accuracy:
    """What the judge sees against what was drawn."""
    stickers, concepts, whole, places = [], [], [], []
    seen = [found for i in range(0, len(pictures), 128) for found in judge.recognise_many(pictures[i : i + 128])]
    for found, scene in zip(seen, scenes, strict=True):
        there = {s.place: (s.concept, s.style) for s in found}
        drawn = {s.place: (s.concept, s.style) for s in scene.stickers}
        stickers += [there.get(place) == cell for place, cell in drawn.items()]
        concepts += [there.get(place, ("", ""))[0] == cell[0] for place, cell in drawn.items()]
        whole.append(there == drawn)
        places += [(place in there) == (place in drawn) for place in PLACES]
    means = [float(np.mean(values)) for values in (stickers, concepts, whole, places)]
    return Accuracy(stickers=means[0], concepts=means[1], scenes=means[2], places=means[3])
