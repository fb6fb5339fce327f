"""Ways of sampling side by side, in one run on one machine: time, memory, FLOPs, and the judge's score (`dimoo bench`).

In: a checkpoint (or a size with random weights, for time alone) and a task. Out: a row for every way:

    twin            a straight port of the authors' algorithm (`eval/twin.py`), and the same with their ML-Cache
    plain N         every row at every step, N steps: the whole curve, which any cleverer way has to beat. An answer
                    ends once its end stands, which changes nothing that is read, unless the name says "to the end"
    other names     cache policies, reuse of contrasts, orders, and the presets

Timing goes round: each repeat runs every way once, on the same request and seed, each time from another way on, so that
whatever else the machine does falls on all alike; ratios are taken within a repeat. Nothing is kept from one request to
the next. Scores are kept as they come: an interrupted run goes on. Differences are between pairs: the same
scene and the same seed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dimoo.data.stickers.questions import QUESTIONS
from dimoo.eval.kept import depends_on, read_lines
from dimoo.eval.recogniser import Recogniser
from dimoo.eval.scores import Score, mean
from dimoo.eval.size import EMPTY_IDS, PROMPT_IDS, Ledger, named_vocab
from dimoo.eval.sticker_trials import MAIN_EDITS, Trial, edit_trials, picture_trials, question_trials
from dimoo.eval.twin import Twin
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.page.page import picture_page, text_page
from dimoo.pipeline import Pipeline, Prepared
from dimoo.sampling import presets
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import fill_image
from dimoo.sampling.policies import DualCache, MLCache, Reuse, RevealAware
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.sampling.text import fill_text
from dimoo.tasks.base import Defaults, PictureOptions, TextOptions
from dimoo.tasks.understand import Understand

TaskName = Literal["t2i", "edit", "understand"]
Settings = ImageSettings | TextSettings
CURVE = (32, 24, 20, 18, 16, 12, 10, 8, 6, 4)  # plain step counts beside the full one
ANSWER, BLOCK = 64, 32  # ids of an answer and of a block
WAIT = 1  # rounds that are run and not counted
# ways of filling a picture, each at every step count of the curve
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "top_p .8,": {"top_p": 0.8},
    "reuse 2,": {"reuse": Reuse(every=2)},
    "reuse 4,": {"reuse": Reuse(every=4)},
    "reuse 4 logits,": {"reuse": Reuse(every=4, kept="logits")},
    "reuse all,": {"reuse": Reuse(every=10_000)},
    "top_p .8, reuse 2,": {"top_p": 0.8, "reuse": Reuse(every=2)},
    "top_p .8, reuse 4,": {"top_p": 0.8, "reuse": Reuse(every=4)},
    "top_p .8, surest,": {"top_p": 0.8, "choice_temperature": 0.0},
    "entropy .3,": {"entropy_bound": 0.3},
    "top_p .8, circle,": {"top_p": 0.8, "schedule": "circle"},
    "top_p .8, circle, reuse 2,": {"top_p": 0.8, "schedule": "circle", "reuse": Reuse(every=2)},
    "top_p .8, circle, reuse 3,": {"top_p": 0.8, "schedule": "circle", "reuse": Reuse(every=3)},
    "halton arccos,": {"order": "halton", "schedule": "arccos"},
    "ml_cache,": {"policy": MLCache()},
    "reveal_aware,": {"policy": RevealAware()},
    "reveal_aware 2,": {"policy": RevealAware(refresh_interval=2)},
    "reveal_aware, reuse 2,": {"policy": RevealAware(), "reuse": Reuse(every=2)},
}


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of sampling: our samplers with these settings, or the twin with them."""

    name: str
    settings: Settings
    twin: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of a way. Seconds are medians; `difference` is to the full plain way, scene by scene."""

    name: str
    steps: float
    seconds: float
    times: tuple[float, ...]
    flops: int
    peak_bytes: int
    score: Score | None = None
    difference: Score | None = None


def ways(task: TaskName, steps: int, defaults: Defaults | None = None) -> list[Way]:
    """Every way that is compared, the twin first and the plain curve after it; presets of pictures as a checkpoint with
    these defaults takes them (without: of as many steps as the full plain way)."""
    if task == "understand":
        return text_ways(steps)
    plain = ImageSettings(steps=steps, noise="exact")
    defaults = defaults or Defaults(steps=steps, noise="exact")
    change = dataclasses.replace
    found = [Way(name="twin", settings=plain, twin=True)]
    if task == "t2i":
        found.append(Way(name="twin, ML-Cache", settings=change(plain, policy=MLCache()), twin=True))
    counts = (steps, *(count for count in CURVE if count < steps))
    for name, differs in VARIANTS.items():
        found += [Way(name=f"{name} {count}", settings=change(plain, steps=count, **differs)) for count in counts]
    family = presets.PICTURE if task == "t2i" else presets.EDIT
    found += [
        Way(name=f"preset {name}", settings=PictureOptions(preset=name).settings(defaults, edit=task == "edit"))
        for name in family
    ]
    return found


def to_the_end(steps: int) -> str:
    """The name of the way that fills an answer beyond its end, as the twin does."""
    return f"plain {steps}, to the end"


def select(found: Sequence[Way], only: str | None, steps: int) -> list[Way]:
    """The ways whose names begin as one of the parts of `only` says (semicolons between them; None: all), and always
    the twin and the full plain way, also to the end. ValueError for a part that none begins with."""
    if only is None:
        return list(found)
    starts = tuple(part.strip() for part in only.split(";"))
    for start in starts:
        if not start or not any(way.name.startswith(start) for way in found):
            names = "; ".join(dict.fromkeys(re.sub(r",? \d+$", "", way.name) for way in found))
            raise ValueError(f"no way's name begins with {start!r}; they begin with {names}")
    always = ("twin", f"plain {steps}", to_the_end(steps))
    return [way for way in found if way.name in always or way.name.startswith(starts)]


def text_ways(steps: int) -> list[Way]:
    """The twin takes every step, because the authors' early stop never works (docs/parity.md). Ours loses nothing that
    is read; `to the end` shows what is saved without it."""
    plain = TextSettings(steps=steps, block_length=BLOCK)
    change = dataclasses.replace
    whole = change(plain, early_stop=False)
    found = [
        Way(name="twin", settings=whole, twin=True),
        Way(name=to_the_end(steps), settings=whole),
        Way(name=f"plain {steps}", settings=plain),
    ]
    found += [
        Way(name=f"plain {count}", settings=change(plain, steps=count)) for count in (32, 16, 8, 4, 2) if count < steps
    ]
    found += [
        Way(name="dual", settings=change(plain, policy=DualCache())),
        Way(name="dual, refresh 8", settings=change(plain, policy=DualCache(refresh_interval=8))),
        Way(name="threshold .9", settings=change(plain, threshold=0.9)),
        Way(name="threshold .7", settings=change(plain, threshold=0.7)),
        Way(name="entropy .1", settings=change(plain, entropy_bound=0.1)),
        Way(name="dual, threshold .9", settings=change(plain, policy=DualCache(), threshold=0.9)),
        Way(name="dual, entropy .1", settings=change(plain, policy=DualCache(), entropy_bound=0.1)),
    ]
    for name, preset in presets.TEXT.items():
        settings = change(plain, policy=preset.policy, threshold=preset.threshold)
        found.append(Way(name=f"preset {name}", settings=settings))
    return found


def sample(model: Any, twin: Twin, way: Way, guided: Guided, seed: int) -> tuple[list[int], int]:
    """One request filled in one way: the ids at its writable positions, and the steps it took."""
    generator = torch.Generator().manual_seed(seed)
    settings = way.settings
    if not way.twin:
        fill: Any = fill_image if isinstance(settings, ImageSettings) else fill_text
        for step in fill(model, [guided], settings, [generator]):
            last = step
        return last.ids[0].tolist(), last.index + 1
    if isinstance(settings, TextSettings):
        ids = twin.text(guided, settings, generator)
    elif isinstance(settings.policy, MLCache):
        ids = twin.picture_ml_cache(guided, settings, generator)
    elif len(guided.contrasts) > 1:
        ids = twin.edit(guided, settings, generator)
    else:
        ids = twin.picture(guided, settings, generator)
    return ids.tolist(), settings.steps


def measure(
    model: Any,
    chosen: Sequence[Way],
    cases: Sequence[Guided],
    repeats: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Row], dict[str, bool]]:
    """Times going round the cases, which are spread over the rounds, and of each way FLOPs and peak bytes (weights
    apart) of the last one; and, of each way of the twin, whether our samplers give the same ids in every round."""
    twin = Twin.from_model(model)
    seconds: dict[str, list[float]] = {way.name: [] for way in chosen}
    counts: dict[str, list[int]] = {way.name: [] for way in chosen}
    same = {way.name: True for way in chosen if way.twin}
    done, rounds = 0, repeats + WAIT
    for turn in range(rounds):
        guided = cases[turn * len(cases) // rounds]
        written: dict[tuple[Settings, bool], list[int]] = {}
        for way in _from(chosen, turn):
            start = time.perf_counter()
            written[way.settings, way.twin], steps = sample(model, twin, way, guided, turn)
            if turn >= WAIT:
                seconds[way.name].append(time.perf_counter() - start)
                counts[way.name].append(steps)
            done += 1
            if progress is not None:
                progress(done, len(chosen) * rounds)
        for way in chosen:
            if way.twin and (way.settings, False) not in written:
                ours = dataclasses.replace(way, twin=False)
                written[way.settings, False] = sample(model, twin, ours, guided, turn)[0]
            if way.twin:
                same[way.name] &= written[way.settings, False] == written[way.settings, True]
    rows = []
    for way in chosen:
        with torch.inference_mode(), Ledger() as ledger:
            sample(model, twin, way, guided, turn)
        rows.append(
            Row(
                name=way.name,
                steps=statistics.mean(counts[way.name]),
                seconds=statistics.median(seconds[way.name]),
                times=tuple(seconds[way.name]),
                flops=ledger.flops,
                peak_bytes=ledger.peak,
            )
        )
    return rows, same


def faster(times: Sequence[float], others: Sequence[float]) -> float:
    """How many times faster `times` are than `others`: the median over the rounds, whose requests differ."""
    return statistics.median(slow / quick for quick, slow in zip(times, others, strict=True))


def random_model(config: ModelConfig, dtype: torch.dtype) -> Transformer:
    """A backbone of random weights: good for times, not for scores."""
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter.data, std=1.5 / config.d_model**0.5, generator=generator)
    return model.to(dtype).eval().requires_grad_(False)


def random_cases(task: TaskName, config: ModelConfig, side: int, factor: int = 16) -> list[Guided]:
    """A page of each task for a model of random weights: a picture of side x side pixels, asked for, edited or
    asked about, with prompts of usual length."""
    vocab, cells = named_vocab(config), side // factor
    prompt, empty = [10 + i % 50 for i in range(PROMPT_IDS)], [10 + i for i in range(EMPTY_IDS)]
    body, codes = torch.full((cells, cells), -1), (torch.arange(cells * cells) % vocab.codes).view(cells, cells)
    if task == "understand":
        return [Guided(text_page(prompt, [vocab.mask] * ANSWER, vocab, images=[codes]))]
    if task == "t2i":
        return [Guided(picture_page(prompt, body, vocab), ((picture_page(empty, body, vocab), 4.0),))]
    contrasts = (
        (picture_page(empty, body, vocab, images=[codes]), 2.5),
        (picture_page(prompt, body, vocab), 4.0),
    )
    return [Guided(picture_page(prompt, body, vocab, images=[codes]), contrasts)]


def measure_batch(model: Any, settings: Settings, cases: Sequence[Guided], repeats: int) -> dict[str, float]:
    """Median seconds a request, alone and in a batch of all the cases, going round."""
    fill: Any = fill_image if isinstance(settings, ImageSettings) else fill_text
    alone, together = [], []
    for turn in range(repeats + WAIT):
        start = time.perf_counter()
        for one in cases:
            for _ in fill(model, [one], settings, [torch.Generator().manual_seed(turn)]):
                pass
        middle = time.perf_counter()
        for _ in fill(model, cases, settings, [torch.Generator().manual_seed(turn) for _ in cases]):
            pass
        if turn >= WAIT:
            alone.append((middle - start) / len(cases))
            together.append((time.perf_counter() - middle) / len(cases))
    return {"size": len(cases), "alone": statistics.median(alone), "together": statistics.median(together)}


def trials(task: TaskName, scenes: int, seed: int) -> list[Trial]:
    """About so many trials of the judge, all rows of a task alike."""
    judge = Recogniser.load()
    if task == "t2i":
        per = math.ceil(scenes / 6)
        return [trial for trial in picture_trials(judge, per, seed) if trial.key != "t2i.unseen"]
    if task == "edit":
        per = math.ceil(scenes / len(MAIN_EDITS))
        return [trial for trial in edit_trials(judge, per, seed) if trial.key.split(".")[1] in MAIN_EDITS]
    per = math.ceil(scenes / (len(QUESTIONS) - 1))  # captions are left out
    return [trial for trial in question_trials(per, seed) if trial.key != "caption"]


def requests(pipe: Pipeline, chosen: Sequence[Trial]) -> Iterator[Prepared]:
    """The trials' pages, answers of `ANSWER` ids."""
    for trial in chosen:
        request = trial.request
        if isinstance(request, Understand):
            options = TextOptions(answer_length=ANSWER, block_length=BLOCK, steps=ANSWER)
            request = dataclasses.replace(request, options=options)
        yield pipe.prepare(request)


def judge_way(
    pipe: Pipeline,
    way: Way,
    chosen: Sequence[Trial],
    folder: Path,
    *,
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """The score of each trial sampled in this way; what an earlier run found is read from the folder."""
    file = folder / f"{_slug(pipe, way, chosen)}.jsonl"
    known: dict[int, float] = {found["index"]: found["score"] for found in read_lines(file)}
    missing = [index for index in range(len(chosen)) if index not in known]
    if progress is not None:
        progress(len(known))
    with file.open("a") as kept:
        for part in _parts(missing, batch):
            group = [chosen[index] for index in part]
            prepared = [dataclasses.replace(one, settings=way.settings) for one in requests(pipe, group)]
            *_, last = pipe.fill(prepared)
            for position, (index, trial, one) in enumerate(zip(part, group, prepared, strict=True)):
                result = pipe.finish(one, last, position, 0.0)
                answer = result.text if result.picture is None else np.asarray(result.picture)
                known[index] = trial.check(answer).score
                kept.write(json.dumps({"index": index, "key": trial.key, "score": known[index]}) + "\n")
            kept.flush()
            if progress is not None:
                progress(len(part))
    return [known[index] for index in range(len(chosen))]


def scored(rows: Sequence[Row], scores: dict[str, list[float]], reference: str) -> list[Row]:
    """The rows with their scores, and the mean difference to the reference over pairs."""
    found = []
    for row in rows:
        if row.name not in scores:
            found.append(row)
            continue
        pairs = [a - b for a, b in zip(scores[row.name], scores[reference], strict=True)]
        found.append(dataclasses.replace(row, score=mean(scores[row.name]), difference=mean(pairs)))
    return found


def _slug(pipe: Pipeline, way: Way, chosen: Sequence[Trial]) -> str:
    """A file name for the scores of these weights, as they run here, in this way on these trials."""
    asked = [(trial.key, trial.index, trial.asked) for trial in chosen]
    return hashlib.sha256(repr((depends_on(pipe), way.settings, asked)).encode()).hexdigest()[:20]


def _from(chosen: Sequence[Way], turn: int) -> list[Way]:
    """The ways from another one on at each turn."""
    start = turn % len(chosen)
    return [*chosen[start:], *chosen[:start]]


def _parts(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(indices), size):
        yield indices[at : at + size]
