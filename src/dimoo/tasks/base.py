"""What a task is, and what it has to work with.

A task is a frozen request: which pages (`guided`), which settings, how the answer is read. `Tools` are the parts of a
checkpoint that pages need; `Defaults` what a checkpoint recommends where the request is silent.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from dimoo.diffusion.schedule import Schedule
from dimoo.page.page import Page
from dimoo.page.templates import CLOSING, TURN, opening
from dimoo.sampling import presets
from dimoo.sampling.choose import Noise
from dimoo.sampling.guidance import Guided
from dimoo.sampling.policies import Policy, Reuse
from dimoo.sampling.presets import Preset
from dimoo.sampling.settings import ImageSettings, Order, TextSettings
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.tokenizers.resize import fit_to_bucket, open_picture, to_pixels
from dimoo.tokenizers.text import TextTokenizer
from dimoo.vocab import Vocab, read_json

Picture = Image.Image
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """A checkpoint's recommendations, from its `dimoo.json`; these values are those of the authors' scripts."""

    height: int = 1024
    width: int = 1024
    edit_area: int = 512  # input pictures of edits go to the buckets of about this many pixels squared
    understand_area: int = 1024
    bucket_patch: int = 32
    prompt_limit: int = 1024
    noise: Noise = "reference"
    steps: int = 64
    top_p: float = 1.0  # of pictures: ids beyond this mass are never drawn
    schedule: Schedule = "cosine"  # of pictures: how many cells each step fills
    cfg_scale: float = 4.0
    edit_cfg_scale: float = 2.5
    edit_cfg_img: float = 4.0
    edit_questions: dict[str, str] = field(default_factory=dict)  # by edit type (`tasks/edit.py`)
    answer_length: int = 1024
    block_length: int = 256
    text_steps: int = 128
    preset: Preset = "quality"  # of a picture drawn, where its request names none
    edit_preset: Preset = "quality"
    text_preset: Preset = "quality"
    name: str = "Lumina-DiMOO"

    @classmethod
    def load(cls, folder: Path) -> Defaults:
        file = folder / "dimoo.json"
        if not file.is_file():
            return cls()
        values = read_json(file)
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(f"{file}: unknown keys {sorted(unknown)}; known are {sorted(known)}")
        return cls(**values)

    def save(self, folder: Path) -> None:
        (folder / "dimoo.json").write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tools:
    """What tasks need of a checkpoint: ids, text, pictures, recommendations."""

    vocab: Vocab
    text: TextTokenizer
    image: ImageTokenizer
    defaults: Defaults

    def prompt(self, system: str, words: str) -> list[int]:
        """Ids of `<system>S</system><user>words</user>`; long words are cut, tags never."""
        return self.text.encode_within(opening(system), words, CLOSING, self.defaults.prompt_limit)

    def turn(self, words: str) -> list[int]:
        """Ids of a later turn, `<user>words</user>`."""
        return self.text.encode_within(TURN, words, CLOSING, self.defaults.prompt_limit)

    def codes(self, picture: Picture, area: int) -> Tensor:
        """Codes (R, C) of an input picture at its nearest bucket."""
        return self.image.encode(to_pixels(fit_to_bucket(open_picture(picture), area, self.defaults.bucket_patch)))

    def blank(self, height: int, width: int) -> Tensor:
        """A grid (R, C) of masked cells."""
        return torch.full((height // self.image.factor, width // self.image.factor), -1)


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Sampling of a picture; None leaves it to the preset, whose None is the checkpoint's recommendation."""

    steps: int | None = None
    cfg_scale: float | None = None
    cfg_img: float | None = None
    temperature: float = 1.0
    choice_temperature: float | None = None
    noise: Noise | None = None
    top_k: int | None = None
    top_p: float | None = None
    schedule: Schedule | None = None
    order: Order = "confidence"
    entropy_bound: float | None = None
    policy: Policy | None = None
    reuse: Reuse | None = None
    preset: Preset | None = None

    def settings(self, defaults: Defaults, *, edit: bool = False) -> ImageSettings:
        """Everything decided, for a picture edited or else for one drawn."""
        family = presets.EDIT if edit else presets.PICTURE
        recommended = defaults.edit_preset if edit else defaults.preset
        chosen = named(family, recommended if self.preset is None else self.preset)
        share = max(1, round(chosen.steps * defaults.steps))
        top_p = defaults.top_p if self.top_p is None else self.top_p
        schedule = defaults.schedule if chosen.schedule is None else chosen.schedule
        values: dict[str, Any] = {
            "steps": share if self.steps is None else self.steps,
            "temperature": self.temperature,
            "choice_temperature": self.choice_temperature,
            "noise": defaults.noise if self.noise is None else self.noise,
            "top_k": self.top_k,
            "top_p": None if top_p == 1 else top_p,
            "schedule": schedule if self.schedule is None else self.schedule,
            "order": self.order,
            "entropy_bound": chosen.entropy_bound if self.entropy_bound is None else self.entropy_bound,
            "policy": chosen.policy if self.policy is None else self.policy,
            "reuse": chosen.reuse if self.reuse is None else self.reuse,
        }
        return ImageSettings(**values)


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Sampling of an answer; None leaves it to the preset, whose None is the checkpoint's recommendation."""

    answer_length: int | None = None
    block_length: int | None = None
    steps: int | None = None
    temperature: float = 0.0
    threshold: float | None = None
    entropy_bound: float | None = None
    policy: Policy | None = None
    preset: Preset | None = None

    def settings(self, defaults: Defaults) -> TextSettings:
        chosen = named(presets.TEXT, defaults.text_preset if self.preset is None else self.preset)
        ruled = any(rule is not None for rule in (self.steps, self.threshold, self.entropy_bound))
        length = self.length(defaults)
        block = min(defaults.block_length, length) if self.block_length is None else self.block_length
        blocks = max(1, length // max(1, block))
        share = max(1, round(defaults.text_steps * length / defaults.answer_length / blocks)) * blocks
        values: dict[str, Any] = {
            "steps": share if self.steps is None else self.steps,
            "block_length": block,
            "temperature": self.temperature,
            "threshold": self.threshold if ruled else chosen.threshold,
            "entropy_bound": self.entropy_bound,
            "policy": chosen.policy if self.policy is None else self.policy,
        }
        return TextSettings(**values)

    def length(self, defaults: Defaults) -> int:
        length = defaults.answer_length if self.answer_length is None else self.answer_length
        if length < 1:
            raise ValueError(f"answer_length must be at least 1, got {length}")
        return length


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a task made of its page: a picture or a text, and the picture's codes (R, C)."""

    picture: Picture | None = None
    text: str | None = None
    codes: Tensor | None = field(default=None, repr=False)


class Task(Protocol):
    """One request of one kind."""

    @property
    def seed(self) -> int: ...

    def guided(self, tools: Tools) -> Guided:
        """The page to fill and what it is contrasted with. ValueError for a request that cannot be met."""
        ...

    def settings(self, tools: Tools) -> ImageSettings | TextSettings: ...

    def read(self, tools: Tools, page: Page) -> Answer:
        """The answer on the filled page."""
        ...


def named(presets_by_name: Mapping[Preset, Found], name: Preset) -> Found:
    """A preset by its name. ValueError for another name."""
    if name not in presets_by_name:
        raise ValueError(f"preset {name!r} is not one of {', '.join(presets_by_name)}")
    return presets_by_name[name]


def check_prompt(prompt: str, what: str = "prompt") -> None:
    if not prompt.strip():
        raise ValueError(f"the {what} is empty")


def read_picture(tools: Tools, page: Page) -> Answer:
    codes = page.output_codes()
    return Answer(picture=Image.fromarray(tools.image.decode(codes)), codes=codes)


def read_text(tools: Tools, page: Page) -> Answer:
    return Answer(text=tools.text.decode(page.answer_ids()).strip())


def grids(tools: Tools, pictures: Sequence[Picture], area: int) -> tuple[Tensor, ...]:
    return tuple(tools.codes(picture, area) for picture in pictures)
