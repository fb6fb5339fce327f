"""Judging a checkpoint in the world of stickers (`dimoo eval stickers`), after GenEval's categories.

In: a checkpoint, suites, n trials a row, an evaluation seed. Out: a report of rows {score, n, ci}, a JSON file and a
page to look at. Every finished trial is kept in the output folder, so that an interrupted run goes on where it was;
trials kept from other weights or settings are not mixed in.

    t2i    the six categories, cells never drawn in training, diversity over ten seeds
    qa     questions of every kind, captions; comparisons, second questions, talk without a picture
    edit   edits by words, control and prediction of maps, inpainting and outpainting, references
    vq     the judge's own ceiling on real scenes and after a VQ round trip, PSNR, codebook in use
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dimoo.data.stickers.catalogue import CORE, STYLES
from dimoo.data.stickers.expectation import expect
from dimoo.data.stickers.pictures import draw
from dimoo.data.stickers.prompts import CATEGORIES, UNSEEN, evaluation_scenes
from dimoo.data.stickers.scenes import CANVAS, every_drawing
from dimoo.data.stickers.stream import picture as any_picture
from dimoo.eval import gallery
from dimoo.eval.kept import depends_on, read_lines
from dimoo.eval.recogniser import Recogniser
from dimoo.eval.scores import Score, mean, mean_of, share
from dimoo.eval.sticker_trials import (
    MAIN_EDITS,
    Trial,
    control_trials,
    diversity_trials,
    edit_trials,
    paint_trials,
    picture_trials,
    question_trials,
    reference_trials,
    talk_trials,
)
from dimoo.eval.workers import fill, side_by_side
from dimoo.pipeline import Pipeline
from dimoo.sampling.presets import Preset
from dimoo.tasks.base import Defaults, Picture
from dimoo.tasks.understand import Understand

log = logging.getLogger(__name__)
SUITES = ("t2i", "qa", "edit", "vq")
GALLERY = 12  # trials shown of each row


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run. `batch` requests are filled together, `workers` batches side by side in processes of their own
    (`eval/workers.py`); `preset` None takes what the checkpoint recommends."""

    suites: tuple[str, ...] = SUITES
    n: int = 300
    seed: int = 0
    batch: int = 16
    workers: int = 1
    preset: Preset | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.suites) - set(SUITES):
            raise ValueError(f"unknown suites {sorted(unknown)}; known are {', '.join(SUITES)}")
        if len(set(self.suites)) < len(self.suites):
            raise ValueError(f"each suite once, got {', '.join(self.suites)}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished trial as it is kept: what was asked, what the judge saw, the score and what is counted beside it."""

    key: str
    index: int
    asked: str
    saw: str
    score: float
    held_out: bool
    beside: dict[str, float]


def run(
    pipe: Pipeline,
    folder: Path,
    settings: Settings,
    *,
    load: Callable[[], Pipeline] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """The report. `load` gives more than one worker what `pipe` is, each its own; it is pickled. `progress` is told
    finished trials, all trials, and the seconds that are left."""
    if settings.workers > 1 and load is None:
        raise ValueError(f"{settings.workers} workers need `load`, for a pipeline each")
    _check_sizes(pipe.tools.defaults, settings)
    judge = Recogniser.load()
    folder.mkdir(parents=True, exist_ok=True)
    trials = [trial for suite in settings.suites for trial in _trials(judge, suite, settings)]
    outcomes = _resume(folder / "trials.jsonl", _fingerprint(pipe, settings))
    known = {place: outcome.asked for place, outcome in outcomes.items()}
    missing = [trial for trial in trials if known.get((trial.key, trial.index)) != trial.asked]
    judging = _judged(pipe, load, folder, missing, settings)
    start, done = time.perf_counter(), 0
    with (folder / "trials.jsonl").open("a") as kept, closing(judging) as judged:
        for batch in judged:
            for outcome in batch:
                outcomes[outcome.key, outcome.index] = outcome
                kept.write(json.dumps(asdict(outcome)) + "\n")
            kept.flush()
            done += len(batch)
            if progress is not None:
                left = (time.perf_counter() - start) / done * (len(missing) - done)
                progress(len(trials) - len(missing) + done, len(trials), left)
    report = summarise([outcomes[trial.key, trial.index] for trial in trials])
    if "vq" in settings.suites:
        report["vq"] = measure_vq(pipe, judge, settings)
    report["catalogue"] = {"concepts": len(CORE), "styles": len(STYLES)}
    dtype = str(next(pipe.model.parameters()).dtype).removeprefix("torch.")
    report["settings"] = {**asdict(settings), "checkpoint": pipe.tools.defaults.name, "dtype": dtype}
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    gallery.write(folder, list(outcomes.values()), report, limit=GALLERY)
    return report


def _check_sizes(defaults: Defaults, settings: Settings) -> None:
    """Before an hour is spent on pictures that the judge cannot see."""
    sides = {"t2i": (defaults.height, defaults.width), "edit": (defaults.edit_area, defaults.edit_area)}
    for suite in settings.suites:
        height, width = sides.get(suite, (CANVAS, CANVAS))
        if (height, width) != (CANVAS, CANVAS):
            raise ValueError(
                f"suite {suite}: the judge sees {CANVAS} x {CANVAS} pixels, this checkpoint draws {height} x {width}"
            )


def _trials(judge: Recogniser, suite: str, settings: Settings) -> Iterator[Trial]:
    n, seed = settings.n, settings.seed
    few = max(1, n // 5)  # of what is reported without a goal
    if suite == "t2i":
        yield from (t for t in picture_trials(judge, n, seed) if t.key != f"t2i.{UNSEEN}" or t.index < few)
        yield from diversity_trials(judge, n, seed)
    elif suite == "qa":
        yield from question_trials(n, seed)
        yield from talk_trials(few, seed)
    elif suite == "edit":
        yield from (t for t in edit_trials(judge, n, seed) if t.key.split(".")[1] in MAIN_EDITS or t.index < few)
        yield from (t for t in control_trials(judge, n, seed) if t.key.endswith("canny") or t.index < few)
        yield from (t for t in paint_trials(judge, n, seed) if t.key == "inpaint" or t.index < few)
        yield from reference_trials(judge, few, seed)


def _batches(trials: Sequence[Trial], size: int) -> Iterator[list[Trial]]:
    """Neighbours with answers of one kind, at most `size`."""
    batch: list[Trial] = []
    for trial in trials:
        if batch and (len(batch) == size or type(trial.request) is not type(batch[0].request)):
            yield batch
            batch = []
        batch.append(trial)
    if batch:
        yield batch


def _judged(
    pipe: Pipeline, load: Callable[[], Pipeline] | None, folder: Path, trials: Sequence[Trial], settings: Settings
) -> Generator[list[Outcome], None, None]:
    """Batch by batch, in order."""
    batches = list(_batches(trials, settings.batch))
    asked = [[_sampled(trial.request, settings.preset) for trial in batch] for batch in batches]
    if settings.workers == 1:
        filled = (fill(pipe, requests) for requests in asked)
    else:
        assert load is not None, "run asks for it"
        filled = side_by_side(load, settings.workers, asked)
    with closing(filled):
        for batch, results in zip(batches, filled, strict=True):
            yield [_outcome(folder, trial, *result) for trial, result in zip(batch, results, strict=True)]


def _outcome(folder: Path, trial: Trial, picture: Picture | None, text: str | None) -> Outcome:
    if isinstance(trial.request, Understand):
        verdict = trial.check(text or "")
    else:
        assert picture is not None, "a drawing task gives a picture"
        verdict = trial.check(np.asarray(picture))
    if trial.index < GALLERY:
        drawn = [] if picture is None else [np.asarray(picture)]
        gallery.keep(folder, trial.key, trial.index, [*trial.shown, *drawn])
    return Outcome(
        key=trial.key,
        index=trial.index,
        asked=trial.asked,
        saw=verdict.saw,
        score=verdict.score,
        held_out=trial.held_out,
        beside=verdict.beside,
    )


def _sampled(request: Any, preset: Preset | None) -> Any:
    return request if preset is None else replace(request, options=replace(request.options, preset=preset))


def _fingerprint(pipe: Pipeline, settings: Settings) -> str:
    """What kept trials depend on. n, suites and batch may change between runs."""
    return f"{depends_on(pipe)} {settings.seed} {settings.preset or ''}".rstrip()


def _resume(file: Path, fingerprint: str) -> dict[tuple[str, int], Outcome]:
    """Trials kept by an earlier run of the same; a file of another is begun anew."""
    head = {"fingerprint": fingerprint}
    lines = read_lines(file)
    if not lines or lines[0] != head:
        file.write_text(json.dumps(head) + "\n")
        return {}
    outcomes = [Outcome(**line) for line in lines[1:]]
    return {(outcome.key, outcome.index): outcome for outcome in outcomes}


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Rows of the report: each {score, n, ci}, with what is counted beside it and seen against held out."""
    rows: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        rows[outcome.key].append(outcome)
    scores = {key: score(row) for key, row in rows.items() if key != "t2i.diversity"}
    report: dict[str, Any] = {}
    for key, row in rows.items():
        group, _, name = key.partition(".")
        entry = {"diversity": diversity(row)} if key == "t2i.diversity" else {name or group: _entry(scores[key], row)}
        if name:
            report.setdefault(group, {}).update(entry)
        else:
            report.update(entry)
    for group, members in (
        ("t2i", [f"t2i.{name}" for name in CATEGORIES]),
        ("edit", [f"edit.{name}" for name in MAIN_EDITS]),
        ("qa", [key for key in scores if key.startswith("qa.")]),
    ):
        present = [scores[key] for key in members if key in scores]
        if present and len(present) == len(members):
            report[group]["overall"] = mean_of(present).to_json()
    if "edit" in report:
        edited = [key for key in rows if key.startswith("edit.")]
        main = [f"edit.{name}" for name in MAIN_EDITS]
        for name, members in (("kept", edited), ("kept_main", [key for key in edited if key in main])):
            kept = [o.beside["kept"] for key in members for o in rows[key] if "kept" in o.beside]
            if kept:
                report["edit"][name] = mean(kept).to_json()
    return report


def score(row: Sequence[Outcome]) -> Score:
    values = [outcome.score for outcome in row]
    return share([value == 1 for value in values]) if set(values) <= {0.0, 1.0} else mean(values)


def _entry(total: Score, row: Sequence[Outcome]) -> dict[str, Any]:
    entry: dict[str, Any] = total.to_json()
    held, seen = [o for o in row if o.held_out], [o for o in row if not o.held_out]
    if held and seen:
        entry["held_out"], entry["seen"] = score(held).to_json(), score(seen).to_json()
    for name in sorted({name for outcome in row for name in outcome.beside}):
        entry[name] = math.fsum(o.beside[name] for o in row if name in o.beside) / sum(name in o.beside for o in row)
    return entry


def diversity(row: Sequence[Outcome], seeds: int = 10) -> dict[str, Any]:
    """Of each prompt's ten pictures, the share of pairs in which the judge sees something different."""
    prompts: dict[int, list[str]] = defaultdict(list)
    for outcome in row:
        prompts[outcome.index // seeds].append(outcome.saw)
    different = []
    for seen in prompts.values():
        pairs = [(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :]]
        different.append(sum(a != b for a, b in pairs) / max(1, len(pairs)))
    return mean(different).to_json()


def measure_vq(pipe: Pipeline, judge: Recogniser, settings: Settings) -> dict[str, Any]:
    """The judge on real held-out scenes and on their VQ round trips (the ceiling), the same of every drawing alone,
    small and large, PSNR, and the codes in use."""
    image = pipe.tools.image
    real: list[bool] = []
    tripped: list[bool] = []
    scenes: list[bool] = []
    psnr: list[float] = []
    used: set[int] = set()
    for case in evaluation_scenes(settings.n, settings.seed):
        picture = draw(case.scene)
        codes = image.encode(picture)
        used.update(codes.flatten().tolist())
        decoded = image.decode(codes)
        psnr.append(_psnr(picture, decoded))
        wanted = {(s.concept, s.style, s.place) for s in case.scene.stickers}
        for pixels, outcomes in ((picture, real), (decoded, tripped)):
            there = {(s.concept, s.style, s.place) for s in judge.scene(pixels)[0]}
            outcomes.extend(thing in there for thing in wanted)
        scenes.append(expect(case.scene).holds(*judge.scene(decoded)))
    alone: dict[str, list[bool]] = {"drawings": [], "drawings_real": []}
    for scene in every_drawing(np.random.default_rng((6, settings.seed))):
        picture = draw(scene)
        for name, pixels in (("drawings_real", picture), ("drawings", image.decode(image.encode(picture)))):
            found = [(s.concept, s.style, s.place) for s in judge.scene(pixels)[0]]
            alone[name].append(found == [(s.concept, s.style, s.place) for s in scene.stickers])
    for index in range(4 * settings.n):
        used.update(image.encode(any_picture(index, "eval")).flatten().tolist())
    return {
        "ceiling": share(tripped).to_json(),
        "ceiling_real": share(real).to_json(),
        "ceiling_scenes": share(scenes).to_json(),
        **{name: share(right).to_json() for name, right in alone.items()},
        "psnr": mean(psnr).to_json(),
        "codebook_in_use": {"score": len(used) / image.codes, "n": 5 * settings.n, "ci": [0.0, 1.0]},
    }


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(((a.astype(float) - b.astype(float)) ** 2).mean())
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def table(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows (name, score, n, 95 % interval), in the report's order."""
    rows: list[tuple[str, str, str, str]] = []
    for group, entries in report.items():
        if group in ("settings", "catalogue"):
            continue
        named = {group: entries} if "score" in entries else {f"{group}.{name}": e for name, e in entries.items()}
        for name, entry in named.items():
            low, high = entry["ci"]
            rows.append((name, f"{entry['score']:.3f}", str(entry["n"]), f"{low:.3f} .. {high:.3f}"))
            for part in ("seen", "held_out"):
                if part in entry:
                    rows.append((f"  {part}", f"{entry[part]['score']:.3f}", str(entry[part]["n"]), ""))
            rows += [
                (f"  {part}", f"{value:.3f}", "", "")
                for part, value in entry.items()
                if part not in ("score", "n", "ci", "seen", "held_out")
            ]
    return rows
