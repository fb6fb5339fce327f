"""The tables of measured ways in docs/sampling.md, from the reports of `dimoo bench`.

python scripts/bench_docs.py out/t2i.json …   # keep the reports in docs/bench, and write their tables
python scripts/bench_docs.py                  # write the tables of the reports that are kept
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from dimoo.eval.bench import faster

ROOT = Path(__file__).parents[1]
DOCUMENT, KEPT = ROOT / "docs" / "sampling.md", ROOT / "docs" / "bench"
MARK = re.compile(r"<!-- bench (\S+) -->\n.*?<!-- /bench -->", re.DOTALL)


def put(document: str) -> str:
    """The document with a table of today's reports between each pair of marks."""
    return MARK.sub(lambda found: f"<!-- bench {found[1]} -->\n{section(found[1])}\n<!-- /bench -->", document)


def section(name: str) -> str:
    """The table of a kept report, and what it says of ids and batches."""
    report = json.loads((KEPT / f"{name}.json").read_text())
    full = f"plain {report['steps']}"
    named = {row["name"]: row for row in report["rows"]}
    scored = any(row["score"] for row in report["rows"])
    heads = ["", "ms", "x twin", f"x {full}", "MB", *(["score", "difference"] if scored else [])]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in report["rows"]:
        seconds = row["seconds"]
        cells = [row["name"], f"{1000 * seconds:.1f}", f"{faster(row['times'], named['twin']['times']):.2f}"]
        cells += [f"{faster(row['times'], named[full]['times']):.2f}", f"{row['peak_bytes'] / 1e6:.1f}"]
        lines.append(_line([*cells, *(_judged(row) if scored else [])]))
    rounds = len(report["rows"][0]["times"])
    about = f"{report['name']}, {report['dtype']}, {report['threads']} threads, medians of {rounds} rounds"
    if scored:
        about += f", scores of {next(row['score']['n'] for row in report['rows'] if row['score'])} trials a way"
    said = [
        f"{name}: {'the same ids' if same else 'other ids'} from our samplers" for name, same in report["same"].items()
    ]
    if report["batch"]:
        batch = report["batch"]
        said.append(
            f"{batch['size']} together: {1000 * batch['together']:.0f} ms each, alone {1000 * batch['alone']:.0f} ms"
        )
    return "\n".join([f"{about}:", "", *lines, "", f"{'; '.join(said)}."])


def _judged(row: dict[str, Any]) -> list[str]:
    score, apart = row["score"], row["difference"]
    if not score:
        return ["", ""]
    low, high = apart["ci"]
    return [f"{score['score']:.3f}", f"{apart['score']:+.3f} ({low:+.3f} .. {high:+.3f})"]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for file in map(Path, sys.argv[1:]):
        report = json.loads(file.read_text())
        if f"<!-- bench {file.stem} -->" not in DOCUMENT.read_text():
            raise SystemExit(f"{DOCUMENT} has no place for {file.stem}")
        for row in report["rows"]:
            row["times"] = [round(seconds, 6) for seconds in row["times"]]
        (KEPT / file.name).write_text(json.dumps(report, indent=1) + "\n")
    DOCUMENT.write_text(put(DOCUMENT.read_text()))
