"""A command's run from flags to files: load, check what it will cost, fill with a progress bar, save.

In: `Where` and requests. Out: results, and pictures written whole or not at all.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from dimoo.commands.console import note, say
from dimoo.commands.options import Saving, Where
from dimoo.cutout import cut_out
from dimoo.eval.size import decoding_cost, expected_seconds, free_memory, measure_speed, sampling_cost, weight_bytes
from dimoo.films import CodeColours, Moment, frames, save_animation, save_strip
from dimoo.hints import Known, picture_hint, word_hint
from dimoo.metadata import Album, check_writable, fingerprint, read_record, record, request_from_json, save_picture
from dimoo.model.checkpoint import find, load_config
from dimoo.model.random import make_random_checkpoint
from dimoo.pipeline import SHIPPED, Pipeline, Prepared, Result, load, pick_device
from dimoo.sampling.image import Step
from dimoo.sampling.presets import PicturePreset
from dimoo.sampling.settings import ImageSettings
from dimoo.tasks.base import Picture, PictureOptions, Task
from dimoo.tasks.edit import Edit
from dimoo.tasks.paint import Inpaint, Outpaint
from dimoo.tasks.text_to_image import TextToImage

LONG = 600.0  # seconds: a run that takes longer says so before it starts
QUICK_STEPS = 32  # of a longer run so many are walked to estimate it
QUICK_FLOPS = 2e12  # a run of at most so many needs no estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class Session:
    """A loaded checkpoint, what loads it again in another process, what is known of its limits, and the pictures that
    were opened."""

    pipe: Pipeline
    load: Callable[[], Pipeline]
    known: Known | None
    album: Album

    @property
    def checkpoint(self) -> dict[str, str]:
        """What a record keeps of the checkpoint."""
        return {
            "name": self.pipe.tools.defaults.name,
            "fingerprint": fingerprint(self.pipe.folder),
            "dtype": str(self.pipe.model.dtype).removeprefix("torch."),
            "device": self.pipe.model.device.type,
        }

    def hint(self, words: str, pictures: Sequence[Picture]) -> None:
        """Say what the model never saw."""
        for line in [word_hint(words, self.known), *(picture_hint(picture, self.known) for picture in pictures)]:
            if line:
                note(line)


@contextmanager
def checkpoint_folder(name: str | None) -> Iterator[Path]:
    """The folder of a checkpoint; of none, the shipped one, and where there is none yet, random weights."""
    with ExitStack() as stack:
        if name is not None:
            yield find(name)
        elif (SHIPPED / "config.json").is_file():
            yield SHIPPED
        else:
            note("no small model is shipped yet: running on random weights, whose pictures and answers mean nothing")
            yield make_random_checkpoint(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dimoo-"))))


@contextmanager
def session(where: Where) -> Iterator[Session]:
    """Load what the flags name. ValueError for what is no checkpoint."""
    dtype = None if where.dtype is None else getattr(torch, where.dtype)
    with checkpoint_folder(where.checkpoint) as folder:
        check_weights(folder, where.device, torch.int8 if where.quantise else dtype)
        loads = partial(
            load,
            None if folder == SHIPPED else folder,
            device=where.device,
            dtype=dtype,
            tile=where.tile,
            quantise=where.quantise,
            compile=where.compile,
        )
        yield Session(pipe=loads(), load=loads, known=Known.load(folder), album=Album())


def repeated(
    kind: type[Any],
    saving: Saving,
    one: Session,
    *,
    values: dict[str, Any],
    options: dict[str, Any],
    either: Sequence[str] = (),
) -> tuple[Any, dict[str, Any]]:
    """A request from flags, on top of the recorded one of `--from-image` if there is one; and that record. Of the
    fields in `either` one that is given takes the place of all."""
    values = {name: value for name, value in values.items() if value is not None}
    if any(name in values for name in either):
        values = dict.fromkeys(either) | values
    if saving.from_image is None:
        return kind(**values, options=PictureOptions(**options)), {}
    made = read_record(saving.from_image)
    folders = (saving.from_image.parent, Path.cwd())
    request = request_from_json(made["request"], one.album.finder(folders), instead=values)
    if not isinstance(request, kind):
        raise ValueError(f"{saving.from_image} was made by `dimoo {made['request']['task']}`: repeat it with that")
    was, now = made.get("checkpoint", {}).get("fingerprint"), one.checkpoint["fingerprint"]
    if was != now:
        note(f"{saving.from_image} was made with other weights ({was}, these are {now}): expect another picture")
    if "preset" in options:  # what a preset decides is no longer as it was recorded
        options = dict.fromkeys(field.name for field in dataclasses.fields(PicturePreset)) | options
    return dataclasses.replace(request, options=dataclasses.replace(request.options, **options)), made


def draw(one: Session, request: Any, verb: str, saving: Saving, *, transparent: bool = False) -> list[Path]:
    """Fill `saving.n` pictures as one batch, save them, and print their paths."""
    if saving.n < 1:
        raise ValueError(f"--n must be at least 1, got {saving.n}")
    words = request.prompt or getattr(request, "type", "")
    paths = targets(saving, verb, words, [request.seed + i for i in range(saving.n)])
    if transparent and paths[0].suffix.lower() in (".jpg", ".jpeg"):
        raise ValueError(f"{paths[0]}: a JPEG can't be transparent; use .png or .webp")
    one.hint(request.prompt, [part for part in vars(request).values() if isinstance(part, Image.Image)])
    check_room(one.pipe, request)
    first = one.pipe.prepare(request)
    prepared = [dataclasses.replace(first, request=dataclasses.replace(request, seed=request.seed + i))
                for i in range(saving.n)]  # fmt: skip
    moments: list[list[Moment]] = [[] for _ in prepared]

    def watch(step: Step) -> None:
        for position, film in enumerate(moments):
            film.append(Moment.of(step, position))

    results = fill(one.pipe, prepared, watch=watch if saving.save_steps else None)
    colours = CodeColours.fit(one.pipe.tools.image) if saving.save_steps else None
    for result, path, film in zip(results, paths, moments, strict=True):
        assert result.picture is not None, "a picture task gives a picture"
        save(one, result, path, saving, transparent=transparent)
        say(path)
        if colours is not None:
            shown = frames(film, result.picture, colours)
            strip, animation = path.with_suffix(".steps.png"), path.with_suffix(".steps.webp")
            save_strip(shown, strip)
            save_animation(shown, animation)
            say(strip)
            say(animation)
    return paths


def save(one: Session, result: Result, path: Path, saving: Saving, *, transparent: bool = False) -> None:
    assert result.picture is not None, "only pictures are saved"
    made = None
    if not saving.no_metadata:
        extra = {"transparent": True} if transparent else {}
        made = record(
            result,
            defaults=one.pipe.tools.defaults,
            checkpoint=one.checkpoint,
            source=one.album.source,
            extra=extra,
        )
    save_picture(cut_out(result.picture) if transparent else result.picture, path, made)


def fill(pipe: Pipeline, prepared: Sequence[Prepared], *, watch: Any = None) -> list[Result]:
    """Fill requests of one kind together, with a progress bar; `watch` is shown every step."""
    check_cost(pipe, prepared)
    start = time.perf_counter()
    last: Step | None = None
    total = max(1, sum(int((one.guided.page.ids == pipe.tools.vocab.mask).sum()) for one in prepared))
    # disable=None: no bar where standard error is no terminal
    with tqdm(total=None, unit="step", leave=False, disable=None, dynamic_ncols=True) as bar:
        try:
            for last in pipe.fill(prepared):
                bar.total = last.steps
                bar.set_postfix_str(f"{sum(last.masked) / total:.0%} masked", refresh=False)
                bar.update(last.index + 1 - bar.n)
                if watch is not None:
                    watch(last)
            assert last is not None, "a page with something to fill takes a step"
            return [pipe.finish(one, last, position, start) for position, one in enumerate(prepared)]
        except RuntimeError as error:  # torch has no error of its own for a CPU that is out of memory
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise MemoryError from error
            raise


def ask(pipe: Pipeline, request: Task) -> Result:
    """One answer."""
    return fill(pipe, [pipe.prepare(request)])[0]


def targets(saving: Saving, verb: str, words: str, seeds: Sequence[int]) -> list[Path]:
    """The files to write, one a seed; their folder is made. ValueError if it can't be, or for an unknown format."""
    output = saving.output.expanduser()
    if output.suffix and not output.is_dir():
        known = Image.registered_extensions()
        if known.get(output.suffix.lower()) not in Image.SAVE:
            raise ValueError(f"{output}: pictures are written as .png, .jpg or .webp, not {output.suffix}")
        check_writable(output.parent)
        if len(seeds) == 1:
            return [output]
        return [output.with_stem(f"{output.stem}-{seed}") for seed in seeds]
    check_writable(output)
    slug = "-".join(re.findall(r"\w+", words.lower())[:6])[:48] or "picture"
    return [_unused(output / f"{verb}-{slug}-{seed}.png") for seed in seeds]


def _unused(path: Path) -> Path:
    """The path, numbered if a file of this name is there already."""
    numbered, count = path, 2
    while numbered.exists():
        numbered, count = path.with_stem(f"{path.stem}-{count}"), count + 1
    return numbered


def check_weights(folder: Path, device: str, dtype: torch.dtype | None) -> None:
    """ValueError for weights that do not fit in memory; what else is wrong with the folder, loading it says."""
    where = pick_device(device)
    needs = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if dtype is not None and (folder / "config.json").is_file():
        needs = weight_bytes(load_config(folder), dtype)
    free = free_memory(where)
    if free is not None and needs > free:
        raise ValueError(
            f"the weights in {folder} need {needs / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on {where}: "
            "try --dtype bfloat16 or another --device"
        )


def check_room(pipe: Pipeline, request: Any) -> None:
    """ValueError for a picture so large that not even its pages could be laid out."""
    size = output_size(pipe, request)
    free = free_memory(pipe.model.device)
    if size is None or free is None or min(size) <= 0:
        return
    height, width = size
    image, config = pipe.tools.image, pipe.model.config
    cells = (height // image.factor) * (width // image.factor)
    if (least := cells * 2 * config.d_ff * pipe.model.dtype.itemsize) > free:
        raise _too_large(height, width, least, free, "a smaller picture")
    if image.tile is None and height * width > 1 << 20:
        rows, columns = height // image.factor, width // image.factor
        least = decoding_cost(dict(image.vq.config), rows, columns, image.dtype).working_bytes
        if least > free:
            raise _too_large(height, width, least, free, "a smaller picture, or --tile 512")


def output_size(pipe: Pipeline, request: Any) -> tuple[int, int] | None:
    """(height, width) of the picture that a request asks for, where it says so."""
    defaults = pipe.tools.defaults
    if isinstance(request, TextToImage):
        height = defaults.height if request.height is None else request.height
        return height, defaults.width if request.width is None else request.width
    if isinstance(request, Edit) and request.height is not None and request.width is not None:
        return request.height, request.width
    if isinstance(request, Inpaint):
        return request.picture.height, request.picture.width
    if isinstance(request, Outpaint):
        top, bottom, left, right = request.expand
        return request.picture.height + top + bottom, request.picture.width + left + right
    return None


def check_cost(pipe: Pipeline, prepared: Sequence[Prepared]) -> None:
    """ValueError if the memory won't do; a note if it will take long. Small runs are not even estimated."""
    config, settings, device = pipe.model.config, prepared[0].settings, pipe.model.device
    guided = [one.guided for one in prepared]
    rows = sum(len(page) for one in guided for page in one.branches)
    free = free_memory(device)
    widest = 4 * rows * (8 * config.d_model + 6 * config.d_ff + 4 * config.n_layers * config.d_model)
    if 2 * config.parameters * rows * settings.steps < QUICK_FLOPS and (free is None or widest < free // 4):
        return
    more = 1.0
    if isinstance(settings, ImageSettings) and settings.steps > QUICK_STEPS:  # the estimate itself shall not take long
        more = settings.steps / QUICK_STEPS
        settings = dataclasses.replace(settings, steps=QUICK_STEPS)
    cost = sampling_cost(config, guided, settings, pipe.model.dtype)
    if free is not None and cost.working_bytes > free:
        needs, has = cost.working_bytes / 1e9, free / 1e9
        raise ValueError(
            f"this run needs about {needs:.1f} GB besides the weights, {has:.1f} GB are free: "
            "try a smaller --height and --width, fewer pictures (--n), --cache none or --dtype bfloat16"
        )
    seconds = more * expected_seconds(cost, measure_speed(device, pipe.model.dtype))
    if seconds > LONG:
        note(f"this will take about {seconds / 60:.0f} minutes on this machine ({more * cost.flops / 1e12:,.0f} TFLOP)")


def _too_large(height: int, width: int, needs: float, free: int, instead: str) -> ValueError:
    return ValueError(
        f"a picture of {height} x {width} pixels (height x width) needs more than {needs / 1e9:.1f} GB, "
        f"{free / 1e9:.1f} GB are free: try {instead}"
    )
