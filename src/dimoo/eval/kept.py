"""Scores that are kept as they come, so that an interrupted run goes on: what they depend on, and how they are read.

In: a pipeline; a file of JSON lines. Out: a digest; the lines' objects. A file belongs to one digest.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dimoo.eval import recogniser
from dimoo.metadata import fingerprint
from dimoo.model.quantise import quantisation_of
from dimoo.pipeline import Pipeline


def depends_on(pipe: Pipeline) -> str:
    """SHA-256 of what any trial's score depends on besides the trial: weights as they run here, the VQ model and its
    tiles, the checkpoint's defaults (guidance comes from them), and the judge."""
    digest = hashlib.sha256(f"{fingerprint(pipe.folder)} {pipe.tools.defaults!r} {pipe.tools.image.tile}".encode())
    for name, parameter in pipe.model.named_parameters():
        kind = quantisation_of(parameter)
        value = (parameter.detach() if kind is None else parameter.dequantize()).cpu().double()
        runs = (name, parameter.dtype, kind, parameter.device.type, float(value.sum()), float(value.abs().max()))
        digest.update(repr(runs).encode())
    digest.update(recogniser.SHIPPED.read_bytes())
    return digest.hexdigest()


def read_lines(file: Path) -> list[Any]:
    """The objects that an earlier run kept, none where there is no file. A line that the run's end cut off is left
    out, and ended, so that the next one stands for itself."""
    if not file.exists():
        return []
    text = file.read_text()
    if text and not text.endswith("\n"):
        with file.open("a") as kept:
            kept.write("\n")
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
