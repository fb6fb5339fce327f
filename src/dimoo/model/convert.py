"""A checkpoint written anew: tensor names of the authors or ours, another dtype, everything else alongside.

In: a checkpoint folder. Out: another one, whole or not at all. One tensor after the other is held in memory twice.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from dimoo.model.checkpoint import INDEX, Layout, load_model, save_model
from dimoo.vocab import Vocab

WEIGHTS = ("config.json", INDEX, "model.safetensors")


def convert_checkpoint(source: Path, destination: Path, *, layout: Layout, dtype: torch.dtype | None = None) -> None:
    """ValueError if the destination is there already or can't be made, or the source is no checkpoint."""
    if destination.exists():
        raise ValueError(f"{destination} is there already: give a folder that is not")
    vocab = Vocab.load(source)
    model = load_model(source, dtype=dtype)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}."))
    except OSError as error:
        raise ValueError(f"{destination} can't be made: {error.strerror}") from error
    try:
        save_model(model, partial, layout=layout)
        for item in sorted(source.iterdir()):
            if item.is_dir() and item.name == "vqvae":
                shutil.copytree(item, partial / item.name)
            elif item.is_file() and item.name not in WEIGHTS and item.suffix in (".json", ".model", ".txt", ".md"):
                if not item.name.startswith("golden"):
                    shutil.copy2(item, partial / item.name)
        vocab.save(partial)  # ids live in the checkpoint, whatever the layout
        partial.chmod(0o755)
        partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
