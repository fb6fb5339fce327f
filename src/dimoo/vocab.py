"""Every special id of a checkpoint, read once and verified.

In: a checkpoint folder (`vocab.json`, or a `config.json` in the authors' layout). Out: a frozen `Vocab`.
This is the only file that knows the ids of the authors' layout; everything else asks a `Vocab`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Vocab:
    """The ids of one checkpoint: text below `image_offset`, image code c at `image_offset + c`.

    `size` is the number of rows of the embedding and of the head. `structural` are ids below `image_offset` that
    stand for structure and may never be written as text (tags, newline, mask, reserved ones).
    """

    size: int
    image_offset: int
    mask: int
    newline: int
    boi: int
    eoi: int
    uncondition: int
    answer_start: int
    answer_end: int
    answer_pad: int
    structural: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.image_offset < self.size:
            raise ValueError(f"image_offset {self.image_offset} must lie between 0 and the vocabulary size {self.size}")
        named = self.specials()
        for name, value in named.items():
            if not 0 <= value < self.image_offset:
                raise ValueError(f"special id {name} = {value} must lie between 0 and image_offset {self.image_offset}")
        if len(set(named.values())) != len(named):
            raise ValueError(f"special ids must differ from each other, got {named}")

    @property
    def codes(self) -> int:
        """Number of image codes."""
        return self.size - self.image_offset

    def specials(self) -> dict[str, int]:
        names = ("mask", "newline", "boi", "eoi", "uncondition", "answer_start", "answer_end", "answer_pad")
        return {name: getattr(self, name) for name in names}

    @property
    def not_text(self) -> tuple[int, ...]:
        """Ids below `image_offset` that an answer's text may not hold; `answer_end` and `answer_pad` it may."""
        endings = {self.answer_end, self.answer_pad}
        return tuple(sorted((set(self.specials().values()) | set(self.structural)) - endings))

    @classmethod
    def load(cls, folder: Path) -> Vocab:
        """Read the vocabulary of a checkpoint folder. ValueError if it has none."""
        if (file := folder / "vocab.json").exists():
            return cls.from_json(read_json(file), origin=str(file))
        config = folder / "config.json"
        if config.exists() and (values := read_json(config)).get("model_type") == "llada":
            size = values.get("embedding_size") or values.get("vocab_size")
            if not isinstance(size, int):
                raise ValueError(f"{config}: missing keys ['vocab_size']")
            return authors_vocab(size=size)
        raise ValueError(f"{folder} holds neither vocab.json nor a config.json of model_type 'llada'")

    @classmethod
    def from_json(cls, values: dict[str, Any], *, origin: str) -> Vocab:
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(f"{origin}: unknown keys {sorted(unknown)}; known are {sorted(known)}")
        if missing := known - set(values) - {"structural"}:
            raise ValueError(f"{origin}: missing keys {sorted(missing)}")
        if wrong := sorted(key for key in known - {"structural"} if not isinstance(values[key], int)):
            raise ValueError(f"{origin}: {wrong[0]} must be an id, got {values[wrong[0]]!r}")
        return cls(**{**values, "structural": tuple(values.get("structural", ()))})

    def save(self, folder: Path) -> None:
        (folder / "vocab.json").write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint's file. ValueError names the file if it is missing or broken."""
    if not file.is_file():
        raise ValueError(f"{file.parent} is no checkpoint: it holds no {file.name}")
    try:
        values = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold a JSON object")
    return values


# The authors' layout (config.py and train.py of their repository; LLaDA-8B's reserved ids below 126349).
AUTHORS_SIZE = 134548
AUTHORS_TOKENS = {
    "mask": "<|mdm_mask|>",
    "newline": "<|reserved_token_0|>",
    "boi": "<IMAGE>",
    "eoi": "</IMAGE>",
    "uncondition": "<uncondition>",
    "answer_start": "<answer>",
    "answer_end": "</answer>",
}


def authors_vocab(*, size: int = AUTHORS_SIZE) -> Vocab:
    """The authors' ids; `size` is the width of the head (134,548 as published)."""
    return Vocab(
        size=size,
        image_offset=126356,
        mask=126336,
        newline=126084,
        boi=126349,
        eoi=126350,
        uncondition=126351,
        answer_start=126354,
        answer_end=126355,
        answer_pad=126339,
        # LLaDA's tokenizer ends at 126348; 126080 upwards are its start, end and reserved tokens, and 126352-126353
        # are tags whose meaning the published files do not state.
        structural=tuple(range(126080, 126356)),
    )
