"""Cache policies: for each step, whether to compute everything again, and if not, which rows.

A policy is a few frozen numbers; what it decides from is `Seen`, the facts of one branch after the last step.

    NoCache      everything at every step
    MLCache      the authors': rows whose largest candidate logit is low (the paper, section 3.3.2)
    RevealAware  rows just revealed, rows about to be, and a small budget of the least certain
    DualCache    text: rows of the block that are masked or just revealed, all others from its first step

Beside it stands `Reuse`, which says how often the contrasts of guidance are computed at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

Kept = Literal["difference", "logits"]


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Contrasts (the unconditional page and its like) are computed at the first `warmup` steps and at every `every`-th
    step after them. In between either their `logits` are kept, or their `difference` from the conditional page's,
    which follows what has been revealed since (LazyMAR, arXiv 2503.12450)."""

    every: int = 1
    warmup: int = 1
    kept: Kept = "difference"

    def __post_init__(self) -> None:
        if self.every < 1 or self.warmup < 1:
            raise ValueError(f"every and warmup must be at least 1, got {self.every} and {self.warmup}")
        if self.kept not in get_args(Kept):
            raise ValueError(f"kept {self.kept!r} is not one of {', '.join(get_args(Kept))}")

    def computes(self, step: int) -> bool:
        """Whether step `step` computes the contrasts."""
        return step < self.warmup or (step - self.warmup + 1) % self.every == 0


@dataclass(frozen=True, eq=False)
class Seen:
    """One branch after the last step, each (L): largest candidate logit of every row, rows revealed by that step,
    rows still masked, and the score of each masked row (-inf elsewhere)."""

    max_logit: Tensor
    revealed: Tensor
    masked: Tensor
    score: Tensor
    next_count: int


class Policy(Protocol):
    @property
    def wants_max_logit(self) -> bool:
        """Whether `rows` reads `max_logit`: it costs the head at every computed row."""
        ...

    def refresh(self, step: int, steps: int) -> bool:
        """Whether step `step` of `steps` computes every row."""
        ...

    def rows(self, seen: Seen) -> Tensor:
        """The rows (L, bool) that the next partial step computes."""
        ...


@dataclass(frozen=True, kw_only=True)
class NoCache:
    wants_max_logit = False

    def refresh(self, step: int, steps: int) -> bool:
        return True

    def rows(self, seen: Seen) -> Tensor:
        return torch.ones_like(seen.masked)


@dataclass(frozen=True, kw_only=True)
class MLCache:
    """The authors' max-logit cache: with w = int(steps * warmup_ratio), step s is full if s <= w or (s - w) is a
    multiple of `refresh_interval`; a partial step computes the rows whose largest logit is at most the
    (1 - cache_ratio)-quantile over all rows, prompt and newlines included."""

    cache_ratio: float = 0.9
    warmup_ratio: float = 0.3
    refresh_interval: int = 5
    wants_max_logit = True

    def __post_init__(self) -> None:
        if not 0 <= self.cache_ratio <= 1 or not 0 <= self.warmup_ratio <= 1:
            raise ValueError(f"cache_ratio {self.cache_ratio} and warmup_ratio {self.warmup_ratio} must lie in 0..1")
        if self.refresh_interval < 1:
            raise ValueError(f"refresh_interval must be at least 1, got {self.refresh_interval}")

    def refresh(self, step: int, steps: int) -> bool:
        warmup = int(steps * self.warmup_ratio)
        return step <= warmup or (step - warmup) % self.refresh_interval == 0

    def rows(self, seen: Seen) -> Tensor:
        return seen.max_logit <= torch.quantile(seen.max_logit, 1 - self.cache_ratio)


@dataclass(frozen=True, kw_only=True)
class RevealAware:
    """Rows just revealed (their keys still say "mask"), the `ahead` times next step's count of masked rows that
    score highest (about to be revealed), and a share `budget` of the masked rows that score lowest. Everything else,
    prompt and input images included, waits for the next refresh."""

    warmup_ratio: float = 0.1
    refresh_interval: int = 6
    ahead: float = 2.0
    budget: float = 0.05
    wants_max_logit = False

    def __post_init__(self) -> None:
        if self.refresh_interval < 1:
            raise ValueError(f"refresh_interval must be at least 1, got {self.refresh_interval}")
        if not 0 <= self.warmup_ratio <= 1 or self.ahead < 0 or not 0 <= self.budget <= 1:
            raise ValueError(f"warmup_ratio and budget must lie in 0..1 and ahead be at least 0, got {self}")

    def refresh(self, step: int, steps: int) -> bool:
        warmup = int(steps * self.warmup_ratio)
        return step <= warmup or (step - warmup) % self.refresh_interval == 0

    def rows(self, seen: Seen) -> Tensor:
        rows = seen.revealed.clone()
        masked = seen.masked.nonzero().flatten()
        order = masked[seen.score[masked].argsort(descending=True)]
        rows[order[: max(1, round(self.ahead * seen.next_count))]] = True
        least = int(self.budget * len(order))
        if least:
            rows[order[-least:]] = True
        return rows


@dataclass(frozen=True, kw_only=True)
class DualCache:
    """The rows of the current block that are masked or were just revealed, at every step; all others at the block's
    first step and every `refresh_interval` steps after it. Fast-dLLM's DualCache (arXiv 2505.22618), which computes the
    whole block, but for rows whose ids are known and read."""

    refresh_interval: int = 1_000_000
    wants_max_logit = False

    def __post_init__(self) -> None:
        if self.refresh_interval < 1:
            raise ValueError(f"refresh_interval must be at least 1, got {self.refresh_interval}")

    def refresh(self, step: int, steps: int) -> bool:
        return step % self.refresh_interval == 0

    def rows(self, seen: Seen) -> Tensor:
        return seen.masked | seen.revealed
