"""Settings of a training run, and the learning rate that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from dimoo.diffusion.schedule import Schedule

Decay = Literal["constant", "linear", "cosine"]
Matrices = Literal["adamw", "muon"]
Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How long, how fast, with which loss; the defaults are the small model's.

    - The run ends after `steps`, or after `minutes` of this sitting, whichever comes first.
    - `decay` runs from `decay_start` to `steps`, down to `final_share` of `learning_rate`.
    - `ratio`: how the share of hidden positions is drawn; a `whole_share` of the pages is hidden whole.
    - `text_weight`: weight of a hidden text position, where that of an image code is 1. The loss is the weighted mean
      over all hidden positions of the step (the authors' is the plain mean, weight 1); an answer is a few ids and a
      picture some forty, so without it questions would hardly count.
    - `matrices`: what moves the blocks' matrices; embedding, head and norms always have AdamW. Muon [Jordan 2024] makes
      the momentum orthogonal first, its steps scaled to be as large as AdamW's [Liu 2025, arXiv 2502.16982], times
      `muon_scale`.
    - `dtype` of the matrix products; `fuse` compiles the kernels between them, which takes half a minute at the start.
    - `average_decay`: of the moving average of the weights, which is what ships.
    """

    steps: int = 100_000
    minutes: float | None = None
    learning_rate: float = 1.2e-3
    warmup: int = 200
    decay: Decay = "constant"
    decay_start: int = 0
    final_share: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0
    accumulate: int = 1
    average_decay: float = 0.999
    ratio: Schedule = "cosine"
    whole_share: float = 0.0
    text_weight: float = 5.0
    matrices: Matrices = "adamw"
    muon_scale: float = 1.0
    dtype: Dtype = "bfloat16"
    fuse: bool = True
    seed: int = 0
    log_seconds: float = 30.0
    save_seconds: float = 300.0
    look_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name, choices in (("decay", get_args(Decay)), ("matrices", get_args(Matrices)), ("dtype", get_args(Dtype))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(choices)}")
        for name in ("steps", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then constant, then (where asked for) a linear or cosine decay until the last step."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup))
    length = max(1, settings.steps - settings.decay_start)
    done = min(1.0, max(0.0, (step - settings.decay_start) / length))
    share = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[settings.decay]
    return settings.learning_rate * warm * (settings.final_share + (1 - settings.final_share) * share)
