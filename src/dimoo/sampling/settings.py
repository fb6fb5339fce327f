"""Frozen settings of the samplers. Errors name the value and the choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from dimoo.diffusion.schedule import Schedule
from dimoo.sampling.choose import Noise
from dimoo.sampling.policies import NoCache, Policy, Reuse

Order = Literal["confidence", "halton"]
TextCandidates = Literal["text", "all"]


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How a picture is filled. Defaults are the authors' for text-to-image, without their cache.

    `order` says which cells come first: the surest, or the Halton sequence's. With `entropy_bound` (nats) a step also
    reveals every cell that the bound allows, and the schedule goes on from there: easy pictures take fewer steps.
    `choice_temperature` is that of the noise on the score, which decides where to go on (MaskGIT's name for it); None
    is `temperature`, as the authors have it. With less of it, ids are drawn as before but the surest cells come first.
    `reuse` says how often the contrasts of guidance are computed.
    """

    steps: int = 64
    temperature: float = 1.0
    choice_temperature: float | None = None
    schedule: Schedule = "cosine"
    noise: Noise = "exact"
    top_k: int | None = None
    top_p: float | None = None
    order: Order = "confidence"
    entropy_bound: float | None = None
    policy: Policy = field(default_factory=NoCache)
    reuse: Reuse = field(default_factory=Reuse)

    def __post_init__(self) -> None:
        _check_common(self.steps, self.temperature, self.noise, self.top_k, self.top_p, self.entropy_bound)
        if self.choice_temperature is not None and not 0 <= self.choice_temperature < float("inf"):
            raise ValueError(f"choice_temperature must be 0 or more, got {self.choice_temperature}")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule {self.schedule!r} is not one of {', '.join(get_args(Schedule))}")
        if self.order not in get_args(Order):
            raise ValueError(f"order {self.order!r} is not one of {', '.join(get_args(Order))}")


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How an answer is filled, block by block from the left.

    `steps` is the total over all blocks. With `threshold` or `entropy_bound` a step reveals as much as the rule
    allows, and `steps` no longer counts. `candidates` "all" is the authors' argmax over the whole vocabulary;
    `early_stop` ends as soon as `</answer>` stands and everything before it is filled.
    """

    steps: int = 64
    block_length: int = 32
    temperature: float = 0.0
    noise: Noise = "exact"
    top_k: int | None = None
    top_p: float | None = None
    candidates: TextCandidates = "text"
    early_stop: bool = True
    threshold: float | None = None
    entropy_bound: float | None = None
    policy: Policy = field(default_factory=NoCache)

    def __post_init__(self) -> None:
        _check_common(self.steps, self.temperature, self.noise, self.top_k, self.top_p, self.entropy_bound)
        if self.block_length < 1:
            raise ValueError(f"block_length must be at least 1, got {self.block_length}")
        if self.candidates not in get_args(TextCandidates):
            raise ValueError(f"candidates {self.candidates!r} is not one of {', '.join(get_args(TextCandidates))}")
        if self.threshold is not None and self.entropy_bound is not None:
            raise ValueError("give threshold or entropy_bound, not both")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1, got {self.threshold}")

    def blocks(self, length: int) -> int:
        """Number of blocks of an answer of `length` ids. ValueError if lengths or steps don't fit."""
        if length % self.block_length:
            raise ValueError(f"the answer's length {length} is not a multiple of block_length {self.block_length}")
        blocks = length // self.block_length
        if self.threshold is None and self.entropy_bound is None and self.steps % blocks:
            raise ValueError(f"steps {self.steps} is not a multiple of the {blocks} blocks of {self.block_length} ids")
        return blocks


def _check_common(
    steps: int, temperature: float, noise: str, top_k: int | None, top_p: float | None, entropy_bound: float | None
) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if noise not in get_args(Noise):
        raise ValueError(f"noise {noise!r} is not one of {', '.join(get_args(Noise))}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    if entropy_bound is not None and not entropy_bound >= 0:
        raise ValueError(f"entropy_bound must be 0 or more, got {entropy_bound}")
