"""Records with pictures become records with codes, kept in shards.

In: a maker of record families (seed -> records that share pictures) and the picture tokenizer. Out: `*.npz` shards of
codes (uint16) and records (JSON lines), each named by its first seed and written whole or not at all: run it again to
go on, or in several processes that share the seeds by `part`.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dimoo.data.records import Record
from dimoo.page.painting import fill_smoothly, mask_cells
from dimoo.tokenizers.image import ImageTokenizer

log = logging.getLogger(__name__)
Family = Callable[[int], Sequence[Record]]


def pretokenize(
    family: Family,
    seeds: range,
    tokenizer: ImageTokenizer,
    folder: Path,
    *,
    shard: int = 250,
    batch: int = 64,
    part: tuple[int, int] = (0, 1),
    minutes: float | None = None,
) -> int:
    """Tokenise the families of `seeds` into shards of `shard` families; the number of pictures encoded.

    `part` (k, n) takes every n-th shard from the k-th on. `minutes` starts no new shard after that time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun, pictures = time.monotonic(), 0
    for first in list(seeds[::shard])[part[0] :: part[1]]:
        if minutes is not None and time.monotonic() - begun > 60 * minutes:
            break
        file = folder / f"{first:08d}.npz"
        if file.exists():
            continue
        stop = min(first + shard, seeds.stop)
        records = [record for seed in range(first, stop) for record in family(seed)]
        pictures += write_shard(records, tokenizer, file, batch=batch)
        rate = pictures / (time.monotonic() - begun)
        log.info("%s: %d records, %.0f pictures a second", file.name, len(records), rate)
    return pictures


def write_shard(records: Sequence[Record], tokenizer: ImageTokenizer, file: Path, *, batch: int = 64) -> int:
    """Encode every picture once (by `id`) and write the records; the number of pictures."""
    records = [record if record.mask is None else _with_hole(record) for record in records]
    unique: dict[int, np.ndarray] = {}
    for record in records:
        for picture in _pictures(record):
            unique.setdefault(id(picture), picture)
    place = {key: index for index, key in enumerate(unique)}
    grids = encode_all(list(unique.values()), tokenizer, batch=batch)
    lines = [_to_json(record, place, tokenizer.factor) for record in records]
    partial = file.with_suffix(".partial")
    with partial.open("wb") as opened:
        np.savez(
            opened,
            codes=np.concatenate([grid.ravel() for grid in grids]) if grids else np.zeros(0, np.uint16),
            sizes=np.array([grid.shape for grid in grids], dtype=np.uint16).reshape(-1, 2),
            records=np.frombuffer("\n".join(lines).encode(), dtype=np.uint8),
        )
    partial.replace(file)
    return len(grids)


def encode_all(pictures: Sequence[np.ndarray], tokenizer: ImageTokenizer, *, batch: int = 64) -> list[np.ndarray]:
    """Codes (R, C) uint16 of each picture, those of one size in batches."""
    if tokenizer.codes > 2**16:
        raise ValueError(f"a codebook of {tokenizer.codes} codes does not fit 16 bits")
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        alike[picture.shape].append(index)
    grids: dict[int, np.ndarray] = {}
    for members in alike.values():
        for at in range(0, len(members), batch):
            chosen = members[at : at + batch]
            codes_BRC = tokenizer.encode_batch(np.stack([pictures[index] for index in chosen]))
            grids.update(zip(chosen, codes_BRC.numpy().astype(np.uint16), strict=True))
    return [grids[index] for index in range(len(pictures))]


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard in memory; `record(i)` builds the record with its code grids."""

    codes: np.ndarray
    sizes: np.ndarray
    rows: list[dict[str, Any]]

    @classmethod
    def load(cls, file: Path) -> Shard:
        with np.load(file) as stored:
            text = stored["records"].tobytes().decode()
            return cls(
                stored["codes"], stored["sizes"].astype(np.int64), [json.loads(x) for x in text.split("\n") if x]
            )

    @cached_property
    def offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.sizes[:, 0] * self.sizes[:, 1])])

    def grid(self, index: int) -> np.ndarray:
        """Codes (R, C) of picture `index`."""
        return self.codes[self.offsets[index] : self.offsets[index + 1]].reshape(self.sizes[index])

    def record(self, index: int) -> Record:
        row = self.rows[index]
        answer = row.get("answer_image")
        image = None if answer is None else self.grid(answer)
        mask = None
        if image is not None and "mask" in row:
            bits = np.frombuffer(bytes.fromhex(row["mask"]), dtype=np.uint8)
            mask = np.unpackbits(bits, count=image.size).astype(bool).reshape(image.shape)
        return Record(
            task=row["task"],
            kind=row["kind"],
            prompt=row["prompt"],
            images=tuple(self.grid(i) for i in row["images"]),
            answer_image=image,
            answer_text=row.get("answer_text"),
            mask=mask,
            history=tuple((question, answer) for question, answer in row["history"]),
        )


def _with_hole(record: Record) -> Record:
    """What is to be painted over filled as it is at inference: codes of what is known must not tell what was there."""
    first, *others = record.images
    filled = fill_smoothly(torch.from_numpy(first).float(), torch.from_numpy(record.mask)).round().to(torch.uint8)
    return replace(record, images=(filled.numpy(), *others))


def _pictures(record: Record) -> list[np.ndarray]:
    return [*record.images, *([] if record.answer_image is None else [record.answer_image])]


def _to_json(record: Record, place: dict[int, int], factor: int) -> str:
    row: dict[str, Any] = {
        "task": record.task,
        "kind": record.kind,
        "prompt": record.prompt,
        "images": [place[id(picture)] for picture in record.images],
        "history": [list(turn) for turn in record.history],
    }
    if record.answer_image is not None:
        row["answer_image"] = place[id(record.answer_image)]
    if record.answer_text is not None:
        row["answer_text"] = record.answer_text
    if record.mask is not None:
        cells = mask_cells(torch.from_numpy(record.mask), factor, cover=0.0)  # every touched cell, as when inpainting
        row["mask"] = np.packbits(cells.numpy()).tobytes().hex()
    return json.dumps(row, ensure_ascii=False)
