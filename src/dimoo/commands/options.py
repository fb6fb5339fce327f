"""Options that several commands share, as flags and nothing else: None leaves a value to the checkpoint.

Nothing heavy is imported here: this is what `dimoo COMMAND --help` reads.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Flag = Parameter(negative="", show_default=False)
Dtype = Literal["float32", "bfloat16", "float16"]
Quantisation = Literal["int8", "int8_dynamic"]
Noise = Literal["exact", "reference"]
PictureCache = Literal["none", "ml_cache", "reveal_aware"]
TextCache = Literal["none", "dual"]
Order = Literal["confidence", "halton"]
Preset = Literal["quality", "balanced", "fast"]
JsonFile = Annotated[Path | None, Parameter(name="--json", help="Write the report to this file, too.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Where:
    """What runs, and where."""

    checkpoint: str | None = None
    "A checkpoint folder or a hub id; without it, the small model that ships with the package."
    device: str = "auto"
    "cpu, cuda, mps, ...; auto takes the accelerator that there is."
    dtype: Dtype | None = None
    "Of the weights; without it, as they are stored."
    quantise: Quantisation | None = None
    "The blocks' weights in eight bits, or the activations as well: half the memory."
    compile: Annotated[bool, Flag] = False
    "Let torch compile the blocks: meant for accelerators, slower on a CPU."
    tile: int | None = None
    "Let the VQ model work in tiles of so many pixels, for pictures that would not fit."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PictureFlags:
    """How a picture is sampled."""

    preset: Preset | None = None
    "Ways that were measured: all the work, the same score sooner, or sooner still."

    seed: int | None = None
    "Of the noise: the same seed gives the same picture."
    steps: int | None = None
    "More are slower and better."
    cfg_scale: float | None = None
    "How strongly the words are followed."
    temperature: float | None = None
    "0 takes the likeliest at every step."
    choice_temperature: float | None = None
    "Of the noise on which cells come first: 0 goes on where the model is surest."
    noise: Noise | None = None
    "The authors' bfloat16 noise, or exact noise."
    top_k: int | None = None
    "Only the k likeliest codes of a cell."
    top_p: float | None = None
    "Only the likeliest codes that together reach this probability."
    order: Order | None = None
    "Which cells come first: the surest, or spread evenly."
    entropy_bound: float | None = None
    "Let a step fix every cell that is this sure (nats): easy pictures take fewer steps."
    cache: PictureCache | None = None
    "Compute less in most steps: faster, a little worse."

    def given(self) -> dict[str, Any]:
        """Fields of `PictureOptions` that were given."""
        values = _given(self)
        values.pop("seed", None)
        if (name := values.pop("cache", None)) is not None:
            from dimoo.metadata import POLICIES

            values["policy"] = POLICIES[name]()
        return values


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Saving:
    """Where pictures go, and what goes with them."""

    output: Annotated[Path, Parameter(alias="-o")] = Path("out")
    "A file (.png, .jpg, .webp), or a folder that gets a new file each time."
    n: int = 1
    "Pictures, with the seeds that follow."
    save_steps: Annotated[bool, Flag] = False
    "Write a filmstrip (PNG) and an animation (WebP) of the unmasking, too."
    no_metadata: Annotated[bool, Flag] = False
    "Keep the request out of the file."
    from_image: Path | None = None
    "Repeat the request of a picture; what else is given replaces its values."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AnswerFlags:
    """How an answer is sampled."""

    preset: Preset | None = None
    "Ways that were measured: all the work, the same score sooner, or sooner still."

    seed: int | None = None
    "Of the noise; matters with a temperature above 0."
    steps: int | None = None
    "Of the whole answer: a multiple of the number of blocks."
    temperature: float | None = None
    "0 takes the likeliest at every step."
    answer_length: int | None = None
    "At most so many ids; a multiple of the block's length."
    block_length: int | None = None
    "Blocks are filled from left to right."
    threshold: float | None = None
    "Reveal whatever is surer than this at every step, instead of counting steps."
    cache: TextCache | None = None
    "Compute prompt and suffix once a block."

    def given(self) -> dict[str, Any]:
        """Fields of `TextOptions` that were given."""
        values = _given(self)
        values.pop("seed", None)
        if (name := values.pop("cache", None)) is not None:
            from dimoo.metadata import POLICIES

            values["policy"] = POLICIES[name]()
        return values


def _given(flags: Any) -> dict[str, Any]:
    values = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    return {name: value for name, value in values.items() if value is not None}


# The defaults of the commands' parameters: nothing given.
WHERE, PICTURE, SAVING, ANSWER = Where(), PictureFlags(), Saving(), AnswerFlags()
