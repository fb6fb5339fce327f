"""Ways of sampling by name: what most people should choose from.

    quality    every row at every step: the checkpoint's own settings
    balanced   pictures: half of the steps in a quarter circle, contrasts at every fourth; edits: a good third of the
               steps, contrasts at every second; answers: cached rows
    fast       pictures: a good third of the steps, contrasts at every second; edits: a quarter; answers: cached longer

Chosen from the judge's scores (docs/sampling.md). Pictures: fewer steps beat every cached way; of 1,002 scenes
`balanced` loses .017 to 64 plain steps, `fast` .028. Edits lose nothing with either, answers less than .01.

Steps are a share of the checkpoint's own number. Whatever a request says itself goes before its preset; without one a
checkpoint's own recommendation holds (`preset`, `edit_preset` and `text_preset` of its `dimoo.json`, else `quality`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dimoo.diffusion.schedule import Schedule
from dimoo.sampling.policies import DualCache, NoCache, Policy, Reuse

Preset = Literal["quality", "balanced", "fast"]


@dataclass(frozen=True, kw_only=True)
class PicturePreset:
    """How a picture is filled: share of the steps, how they grow (None: as the checkpoint says), rows, contrasts."""

    steps: float = 1.0
    schedule: Schedule | None = None
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
    "balanced": PicturePreset(steps=0.5, schedule="circle", reuse=Reuse(every=4)),
    "fast": PicturePreset(steps=0.36, schedule="circle", reuse=Reuse(every=2)),
}
EDIT: dict[Preset, PicturePreset] = {
    "quality": PicturePreset(),
    "balanced": PicturePreset(steps=0.36, reuse=Reuse(every=2)),
    "fast": PicturePreset(steps=0.25, reuse=Reuse(every=2)),
}
TEXT: dict[Preset, TextPreset] = {
    "quality": TextPreset(),
    "balanced": TextPreset(policy=DualCache(refresh_interval=8), threshold=0.9),
    "fast": TextPreset(policy=DualCache(), threshold=0.7),
}
