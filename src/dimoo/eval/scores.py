"""Scores with their uncertainty: a share, how many it is of, and Wilson's 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Z95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Score:
    """`score` in 0..1 (or a mean of another unit), over `n` trials, with the half-open 95 % interval `ci`."""

    score: float
    n: int
    ci: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def share(outcomes: Sequence[bool]) -> Score:
    """The share of successes, with Wilson's score interval (Wilson 1927)."""
    n = len(outcomes)
    if n == 0:
        return Score(score=float("nan"), n=0, ci=(0.0, 1.0))
    p = sum(outcomes) / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    spread = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return Score(score=p, n=n, ci=(max(0.0, centre - spread), min(1.0, centre + spread)))


def mean(values: Sequence[float]) -> Score:
    """The mean of values, with the normal interval of its standard error."""
    n = len(values)
    if n == 0:
        return Score(score=float("nan"), n=0, ci=(float("nan"), float("nan")))
    average = math.fsum(values) / n
    variance = math.fsum((value - average) ** 2 for value in values) / max(1, n - 1)
    spread = Z95 * math.sqrt(variance / n)
    return Score(score=average, n=n, ci=(average - spread, average + spread))


def mean_of(scores: Sequence[Score]) -> Score:
    """The unweighted mean of independent scores; n is their sum, the interval from their half-widths."""
    average = math.fsum(s.score for s in scores) / len(scores)
    spread = math.sqrt(math.fsum(((s.ci[1] - s.ci[0]) / 2) ** 2 for s in scores)) / len(scores)
    return Score(score=average, n=sum(s.n for s in scores), ci=(average - spread, average + spread))
