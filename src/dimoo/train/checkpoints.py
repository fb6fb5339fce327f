"""A run's state on disk, written so that a kill at any moment leaves the old or the new one whole; and its export.

In: model, optimizers, average, where the stream of pages stands. Out: `state.pt`; or a checkpoint folder that the
engine loads, with the averaged weights.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dimoo.model.checkpoint import save_model
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.train.config import TrainSettings
from dimoo.train.optim import Average, make_optimizers, new_model

STATE = "state.pt"


@dataclass(kw_only=True, eq=False)
class Run:
    """Everything that a step changes. `stream` is the loader's own state, as plain data; None at the start."""

    model: Transformer
    optimizers: list[torch.optim.Optimizer]
    average: Average
    step: int = 0
    pages: int = 0
    stream: dict[str, Any] | None = None


def start(config: ModelConfig, settings: TrainSettings) -> Run:
    """A fresh run, from the seed of the settings."""
    model = new_model(config, torch.Generator().manual_seed(settings.seed))
    return continue_from(model, settings)


def continue_from(model: Transformer, settings: TrainSettings) -> Run:
    """A run that starts from given weights (float32) with a fresh optimizer, as each stage of training does."""
    model.train().requires_grad_(True)
    average = Average(model, settings.average_decay)
    return Run(model=model, optimizers=make_optimizers(model, settings), average=average)


def save(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (STATE + ".partial")
    torch.save(
        {
            "config": run.model.config.to_json(),
            "model": run.model.state_dict(),
            "average": run.average.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
            "step": run.step,
            "pages": run.pages,
            "stream": run.stream,
        },
        partial,
    )
    partial.replace(folder / STATE)


def resume(folder: Path, config: ModelConfig, settings: TrainSettings) -> Run:
    """The run saved in `folder`, or a fresh one where there is none. ValueError if it is of another size, or of
    another number of optimizers."""
    run = start(config, settings)
    file = folder / STATE
    if not file.exists():
        return run
    saved = torch.load(file, weights_only=True)
    if saved["config"] != config.to_json():
        raise ValueError(f"{file} holds a model of {saved['config']}, asked for was {config.to_json()}")
    if len(saved["optimizers"]) != len(run.optimizers):
        made_by = "muon" if len(saved["optimizers"]) == 2 else "adamw"
        raise ValueError(f"{file} was trained with matrices {made_by!r}, asked for was {settings.matrices!r}")
    run.model.load_state_dict(saved["model"])
    run.average.model.load_state_dict(saved["average"])
    for optimizer, values in zip(run.optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    run.step, run.pages, run.stream = saved["step"], saved["pages"], saved["stream"]
    return run


def export(model: Transformer, folder: Path, *, beside: Path) -> None:
    """Write `model` in bfloat16 as a checkpoint folder, with the other parts (vocabulary, tokenizer, VQ model,
    recommendations) copied from the folder `beside`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("vocab.json", "tokenizer.json", "dimoo.json"):
        if (beside / part).exists():
            shutil.copyfile(beside / part, folder / part)
    shutil.copytree(beside / "vqvae", folder / "vqvae", dirs_exist_ok=True)
    save_model(model, folder, dtype=torch.bfloat16)
