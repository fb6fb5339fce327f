"""What is looked at while a model trains: losses on pages it never sees, and pictures for fixed requests and seeds.

In: a model and the parts of its checkpoint. Out: measures by name, and one PNG with a row of pictures a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from dimoo.model.transformer import Transformer
from dimoo.pipeline import Pipeline
from dimoo.tasks.base import Picture, Task, Tools
from dimoo.train.metrics import Meter
from dimoo.train.trainer import Example, hidden_loss, hide, note

GAP = 4


@torch.no_grad()
def held_out_losses(model: Transformer, batches: Sequence[Sequence[Example]], *, seed: int = 0) -> dict[str, float]:
    """Losses by task, named "held_out/...", with the same positions hidden every time."""
    meter = Meter()
    for index, examples in enumerate(batches):
        hidden = hide(examples, torch.Generator().manual_seed(seed + index))
        loss, losses_M = hidden_loss(model, hidden)
        note(meter, hidden, losses_M, loss)
    means = meter.read(1.0)
    return {f"held_out/{name}": value for name, value in means.items() if name.startswith("loss/")}


def answer(model: Transformer, tools: Tools, requests: Sequence[Task]) -> list[Picture | str]:
    """What the model makes of each request: a picture or words."""
    pipe = Pipeline(model=model, tools=tools, folder=Path())
    results = pipe.run_batch(requests)
    return [result.picture if result.picture is not None else result.text or "" for result in results]


def save_grid(rows: Sequence[Sequence[Picture]], file: Path) -> None:
    """Pictures in rows, on white, as one PNG. Cells are as large as the largest picture."""
    pictures = [picture for row in rows for picture in row]
    if not pictures:
        raise ValueError("a grid needs at least one picture")
    height, width = max(p.height for p in pictures) + GAP, max(p.width for p in pictures) + GAP
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * width + GAP, len(rows) * height + GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (GAP + x * width, GAP + y * height))
    partial = file.with_suffix(".partial.png")
    sheet.save(partial)
    partial.replace(file)
