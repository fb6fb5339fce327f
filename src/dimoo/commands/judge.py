"""Judging a checkpoint, `dimoo eval stickers`, and ways of sampling it, `dimoo bench`. Heavy imports wait for the
call."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from dimoo.commands.console import OUT, note, say, write_report
from dimoo.commands.options import WHERE, JsonFile, Preset, Where


def evaluate(
    what: Literal["stickers"],
    /,
    *,
    n: int = 300,
    suite: str = "t2i,qa,edit,vq",
    seed: int = 0,
    batch: int = 16,
    workers: int = 1,
    preset: Preset | None = None,
    output: Path = Path("out/eval"),
    json: JsonFile = None,
    where: Where = WHERE,
) -> None:
    """Score a checkpoint on what it has not seen, and write a page to look at. An interrupted run goes on.

    Parameters
    ----------
    what
        The benchmark.
    n
        Trials a row.
    suite
        Some of t2i, qa, edit, vq, with commas.
    seed
        An evaluation seed, 0 to 9999.
    batch
        Requests filled together.
    workers
        Processes that fill batches side by side, each with the whole model and its share of the threads. On two cores
        two take a sixth less time than one.
    preset
        How pictures and answers are sampled; without it as the checkpoint recommends.
    output
        A folder for the page, its pictures, and the finished trials.
    """
    from rich.table import Table
    from tqdm import tqdm

    from dimoo.commands.session import session
    from dimoo.eval import stickers

    settings = stickers.Settings(
        suites=tuple(suite.split(",")), n=n, seed=seed, batch=batch, workers=workers, preset=preset
    )
    with session(where) as one:
        with tqdm(unit="trial", desc="judging", disable=None) as bar:

            def progress(done: int, total: int, seconds: float) -> None:
                bar.total = total
                bar.update(done - bar.n)
                bar.set_postfix_str(f"{seconds / 60:.0f} min left")

            report = stickers.run(one.pipe, output, settings, load=one.load, progress=progress)
        if one.known is None:
            note("this checkpoint does not say that it knows stickers: expect little")
    table = Table("", "score", "n", "95 %", box=None, title=f"{report['settings']['checkpoint']}, seed {seed}")
    for row in stickers.table(report):
        table.add_row(*row)
    OUT.print(table)
    say(output / "index.html")
    write_report(json, report)


def bench(
    task: Literal["t2i", "edit", "understand"] = "t2i",
    /,
    *,
    steps: int = 64,
    repeats: int = 5,
    scenes: int = 0,
    only: str | None = None,
    batch: int = 8,
    size: str | None = None,
    side: int = 512,
    output: Path = Path("out/bench"),
    json: JsonFile = None,
    where: Where = WHERE,
) -> None:
    """Ways of sampling side by side, interleaved, against a plain port of the authors' algorithm: time, memory, FLOPs,
    and with `--scenes` the judge's score; a table, and a picture of quality against time.

    Parameters
    ----------
    task
        What is asked of the model.
    steps
        Of the full schedule that the others are compared with.
    repeats
        Rounds of timing; each runs every way once.
    scenes
        Trials of the judge for every way, about. 0 leaves scores out. Resumable.
    only
        Ways whose names begin so, with semicolons; the twin and the full plain way always run.
    batch
        Pictures of the batch that is timed against as many singles.
    size
        Time random weights of a named size (medium, 8b) instead of a checkpoint.
    side
        Pixels a side of the picture, with `--size`.
    output
        A folder for the picture and the finished scores.
    """
    import torch
    from tqdm import tqdm

    from dimoo.commands.session import session
    from dimoo.eval import bench as benches
    from dimoo.eval.chart import chart
    from dimoo.model.config import SIZES
    from dimoo.pipeline import pick_device

    if size is not None and size not in SIZES:
        raise ValueError(f"--size {size!r} is not one of {', '.join(SIZES)}")
    if repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {repeats}")
    if size is not None and scenes:
        raise ValueError("random weights have no score: leave out --scenes or --size")
    if where.quantise is not None:
        raise ValueError(f"--quantise {where.quantise}: the twin needs weights as they are stored")
    if size is not None and (where.checkpoint is not None or where.compile or where.tile is not None):
        raise ValueError("--size times random weights, eager: leave out --checkpoint, --compile and --tile")
    full = f"plain {steps}"
    output.mkdir(parents=True, exist_ok=True)
    scores: dict[str, list[float]] = {}
    used: str = where.dtype or "float32"
    if size is not None:
        device = pick_device(where.device)
        model = benches.random_model(SIZES[size], getattr(torch, used)).to(device)
        name = f"random weights, {size}, {side} px"
        chosen = benches.select(benches.ways(task, steps), only, steps)
        cases = benches.random_cases(task, SIZES[size], side)
        rows, same, together = _measured(benches, model, chosen, cases, repeats, batch, full)
    else:
        with session(where) as one:
            model = one.pipe.model
            name, used = one.pipe.tools.defaults.name, str(model.dtype).removeprefix("torch.")
            chosen = benches.select(benches.ways(task, steps, one.pipe.tools.defaults), only, steps)
            trials = benches.trials(task, max(scenes, 24), 0)
            some = trials[:: max(1, len(trials) // 24)]
            cases = [prepared.guided for prepared in benches.requests(one.pipe, some)]
            rows, same, together = _measured(benches, model, chosen, cases, repeats, batch, full)
            # what is the same by construction is not judged again
            ours = [way for way in chosen if not way.twin and way.name != benches.to_the_end(steps)] if scenes else []
            with tqdm(total=len(ours) * len(trials), unit="trial", desc="judging", disable=None) as bar:
                for way in ours:
                    bar.set_postfix_str(way.name)
                    scores[way.name] = benches.judge_way(one.pipe, way, trials, output, progress=bar.update)
    if scenes:
        rows = benches.scored(rows, scores, full)
    OUT.print(_table(benches, rows, full, name))
    for twin, equal in same.items():
        say(f"{twin}: our samplers gave {'the same ids' if equal else 'OTHER ids'} in every round")
    if together:
        say(
            f"{together['size']} together: {1000 * together['together']:.1f} ms each, "
            f"alone {1000 * together['alone']:.1f} ms"
        )
    if scenes:
        chart(rows, f"{name}: {task}, {len(trials)} trials", output / f"{task}.png")
        say(output / f"{task}.png")
    listed = [dataclasses.asdict(row) for row in rows]
    how = {"dtype": used, "device": str(model.device), "threads": torch.get_num_threads()}
    how |= {"steps": steps, "trials": len(trials) if scenes else 0}
    write_report(json, {"task": task, "name": name, **how, "rows": listed, "same": same, "batch": together})


def _table(benches: Any, rows: Any, full: str, title: str) -> Any:
    from rich.table import Column, Table

    named = {row.name: row for row in rows}
    scored = any(row.score is not None for row in rows)
    heads = ("steps", "ms", "x twin", f"x {full}", "GFLOP", "MB", *(("score", "difference") if scored else ()))
    table = Table(Column("", no_wrap=True), *heads, box=None, title=title)
    for row in rows:
        apart = row.difference
        judged = (
            "" if row.score is None else f"{row.score.score:.3f}",
            "" if apart is None else f"{apart.score:+.3f} ({apart.ci[0]:+.3f} .. {apart.ci[1]:+.3f})",
        )
        table.add_row(
            row.name,
            f"{row.steps:.1f}",
            f"{1000 * row.seconds:.1f}",
            f"{benches.faster(row.times, named['twin'].times):.2f}",
            f"{benches.faster(row.times, named[full].times):.2f}",
            f"{row.flops / 1e9:.1f}",
            f"{row.peak_bytes / 1e6:.1f}",
            *(judged if scored else ()),
        )
    return table


def _measured(benches: Any, model: Any, chosen: Any, cases: Any, repeats: int, batch: int, full: str) -> Any:
    from tqdm import tqdm

    with tqdm(unit="run", desc="timing", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        rows, same = benches.measure(model, chosen, cases, repeats, progress=progress)
    plain = next(way for way in chosen if way.name == full)
    together = benches.measure_batch(model, plain.settings, (cases * batch)[:batch], repeats) if batch > 1 else {}
    return rows, same, together
