"""Ways of sampling by name: what most people should choose from.

    quality    every row at every step: the checkpoint's own settings
    balanced   cached rows, contrasts reused
    fast       half the steps besides

Chosen from arithmetic. Only `fast` of answers has a score so far, and keeps it on the small model (docs/sampling.md).

Steps are a share of the checkpoint's own number. Whatever a request says itself goes before its preset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dimoo.sampling.policies import DualCache, NoCache, Policy, Reuse, RevealAware

Preset = Literal["quality", "balanced", "fast"]


@dataclass(frozen=True, kw_only=True)
class PicturePreset:
    """How a picture is filled: share of the steps, rows, contrasts."""

    steps: float = 1.0
    policy: Policy = field(default_factory=NoCache)
    reuse: Reuse = field(default_factory=Reuse)
    entropy_bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class TextPreset:
    """How an answer is filled: rows, and the confidence that is enough (None: an even share a step)."""

    policy: Policy = field(default_factory=NoCache)
    threshold: float | None = None


PICTURE: dict[Preset, PicturePreset] = {
    "quality": PicturePreset(),
    "balanced": PicturePreset(policy=RevealAware(), reuse=Reuse(every=2)),
    "fast": PicturePreset(steps=0.5, policy=RevealAware(), reuse=Reuse(every=2)),
}
EDIT: dict[Preset, PicturePreset] = {
    "quality": PicturePreset(),
    "balanced": PicturePreset(policy=RevealAware(refresh_interval=8), reuse=Reuse(every=2)),
    "fast": PicturePreset(steps=0.5, policy=RevealAware(refresh_interval=8), reuse=Reuse(every=2)),
}
TEXT: dict[Preset, TextPreset] = {
    "quality": TextPreset(),
    "balanced": TextPreset(policy=DualCache(refresh_interval=8), threshold=0.9),
    "fast": TextPreset(policy=DualCache(), threshold=0.7),
}
