"""What a run writes down: losses by task and by how much was hidden, speeds; JSON lines, and TensorBoard if wanted.

In: measures of steps. Out: `metrics.jsonl` in the run's folder, one object a line.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Meter:
    """Means of named values since it was last read, each weighted by its count, and rates of things counted."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)
        self.things: dict[str, int] = defaultdict(int)

    def add(self, name: str, total: float, count: float = 1) -> None:
        self.sums[name] += total
        self.counts[name] += count

    def count(self, name: str, number: int) -> None:
        self.things[name] += number

    def read(self, seconds: float) -> dict[str, float]:
        """The means, and the counted things a second over `seconds`; then start again."""
        means = {name: self.sums[name] / count for name, count in sorted(self.counts.items()) if count}
        rates = {f"{name}_per_second": number / max(seconds, 1e-9) for name, number in self.things.items()}
        self.sums.clear()
        self.counts.clear()
        self.things.clear()
        return means | rates


class Journal:
    """Appends to `metrics.jsonl`, logs the headline, and writes TensorBoard events if that is asked for."""

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "metrics.jsonl"
        self.board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        line = {"step": step, **{name: round(value, 5) for name, value in values.items()}}
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        short = (f"{name} {value:.4g}" for name, value in values.items())
        log.info("step %d  %s", step, "  ".join(short))


def ratio_bucket(ratio: float) -> str:
    """The quarter of (0, 1] in which a ratio of hidden positions lies, "0-25" to "75-100"."""
    quarter = min(3, int(ratio * 4))
    return f"{25 * quarter}-{25 * quarter + 25}"
