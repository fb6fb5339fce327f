"""Judging a checkpoint: `dimoo eval stickers`. Heavy imports wait for the call."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dimoo.commands.console import OUT, note, say, write_report
from dimoo.commands.options import WHERE, JsonFile, Where


def evaluate(
    what: Literal["stickers"],
    /,
    *,
    n: int = 300,
    suite: str = "t2i,qa,edit,vq",
    seed: int = 0,
    batch: int = 16,
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
    output
        A folder for the page, its pictures, and the finished trials.
    """
    from rich.table import Table
    from tqdm import tqdm

    from dimoo.commands.session import session
    from dimoo.eval import stickers

    settings = stickers.Settings(suites=tuple(suite.split(",")), n=n, seed=seed, batch=batch)
    with session(where) as one:
        with tqdm(unit="trial", desc="judging", disable=None) as bar:

            def progress(done: int, total: int, seconds: float) -> None:
                bar.total = total
                bar.update(done - bar.n)
                bar.set_postfix_str(f"{seconds / 60:.0f} min left")

            report = stickers.run(one.pipe, output, settings, progress=progress)
        if one.known is None:
            note("this checkpoint does not say that it knows stickers: expect little")
    table = Table("", "score", "n", "95 %", box=None, title=f"{report['settings']['checkpoint']}, seed {seed}")
    for row in stickers.table(report):
        table.add_row(*row)
    OUT.print(table)
    say(output / "index.html")
    write_report(json, report)
