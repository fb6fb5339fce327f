"""Write the model card of the small model from what was measured: nothing in it is typed in by hand.

What: reads the training run's `metrics.jsonl` and the report of `dimoo eval stickers --json`, and writes `README.md`
beside the shipped weights. What each stage of training measured is kept in `stickers_history.jsonl` beside this recipe,
since a run's own folder may not be there next time; scores by pages likewise.
Command: `python recipes/stickers_card.py --stage "8 layers, inner width 1,024" --report scores.json`
Hardware: any; a second.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from dimoo.data.stickers.catalogue import CORE, STYLES
from dimoo.eval.stickers import table
from dimoo.model.checkpoint import load_config
from dimoo.pipeline import SHIPPED

HISTORY = Path(__file__).with_name("stickers_history.jsonl")
RUN = Path.home() / ".cache" / "dimoo" / "runs" / "stickers"
LOSSES = ("with_words", "without_words", "understand", "edit_add", "canny_pred", "inpaint")

ABOUT = """# DiMOO stickers

A Lumina-DiMOO of {parameters:.1f} M parameters ({layers} layers of width {width}) with a picture tokenizer of its own
({codes} codes of 16 x 16 pixels), trained from scratch by this package's code on a world of openly licensed stickers
(docs/stickers.md). It draws, edits, inpaints, follows and predicts control maps, and answers questions, at 128 x 128
pixels, on two CPU cores in seconds. It knows {concepts} concepts in {styles} styles on plain, two-tone and gradient
backgrounds, and nothing else: no photographs, no faces, no text in pictures.

## Data and licences

Drawings of Fluent Emoji (flat and 3D, MIT), Noto Emoji (Apache-2.0) and Twemoji (CC-BY-4.0), rendered and combined to
scenes from seeds; captions, instructions and answers are generated with them. Attributions: NOTICE. Never drawn in
training: 5 % of the (concept, style) cells, 10 % of the ordered pairs of concepts, the evaluation seeds.

## Recipe

    python recipes/stickers_vq.py            # the picture tokenizer
    python recipes/stickers_merge.py …       # near-identical codes become one
    python recipes/stickers_recogniser.py …  # the judge
    python recipes/stickers_pretrain.py      # prepare, tokenize, train (see its docstring)
    python recipes/stickers_mix.py           # after some runs: the mean with the weights before

Two CPU cores, bfloat16 products (float32 in `spell`). {hours:.1f} hours of the backbone so far, {pages:,} pages.
"""

AIMS = (  # suite, row, what it is, at least; of pictures the paper's own number on GenEval
    ("t2i", "overall", "text to picture", 0.88),
    ("qa", "overall", "questions", 0.90),
    ("edit", "overall", "edits by words", 0.75),
    ("edit", "kept_main", "what these edits should leave in place", 0.90),
)
UNFINISHED = """
**Training goes on.** Short of its aim, as the tables below say, is

{missed}
"""

LIMITS = """
## Limits

- Tasks of tier A (text to picture, edits, style by words, canny both ways, inpainting, questions, captions) and tier B
  (subject, style by reference, outpainting, swap, move, recount, hed, depth) have a row above, whatever it says.
- Openpose, views of one object from several sides, and text in pictures: not by this model. The engine lays out their
  pages; these weights never saw one.
- It repeats what it was shown: 288 drawings. It is a yardstick and a teaching model, not an artist.
"""


LOSSES_OF = """Nats a hidden position on held-out pages, averaged weights. Up to `redraw` each stage drew these pages by
its own mixture, few of each kind: compare within a stage, or `with_words` and `without_words`, whose pages never
changed. From `spell` on all others were drawn by another lot."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", type=Path, nargs="+", help="more than one: the last was scored")
    arguments.add_argument("--report", type=Path, nargs="+", required=True, help="together they hold t2i and qa")
    arguments.add_argument(
        "--stage",
        nargs="+",
        default=[],
        help="names of the runs; what was kept under them is replaced; without it only the scores are new",
    )
    arguments.add_argument("--into", type=Path, default=SHIPPED / "README.md")
    given = arguments.parse_args()
    runs = given.run or [RUN][: len(given.stage)]
    if len(runs) != len(given.stage):
        arguments.error(f"each run has one stage: got {len(runs)} runs and {len(given.stage)} stages")
    reports = [json.loads(file.read_text()) for file in given.report]
    t2i, qa = (next(report for report in reports if suite in report) for suite in ("t2i", "qa"))
    kept = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    rows = [row for row in kept if row["stage"] not in given.stage]
    for run, stage in zip(runs, given.stage, strict=True):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = history(rows, stage, lines)
    scored = {row["pages"]: row["scores"] for row in kept if "scores" in row}
    for row in rows:
        row |= {"scores": scored[row["pages"]]} if row["pages"] in scored else {}
    rows[-1]["scores"] = {
        "t2i": t2i["t2i"]["overall"]["score"],
        "qa": qa["qa"]["overall"]["score"],
        "n": min(t2i["settings"]["n"], qa["settings"]["n"]),
    }
    HISTORY.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given.into.write_text(card(rows, reports))


def history(earlier: list[dict[str, Any]], stage: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of earlier stages, and after them those of this run; hours and pages count from the very beginning."""
    hours, pages = (earlier[-1]["hours"], earlier[-1]["pages"]) if earlier else (0.0, 0)
    return earlier + [
        {"stage": stage, "hours": round(hours + more, 2), "pages": pages + drawn, "losses": losses}
        for more, drawn, losses in losses_by_hours(lines)
    ]


def card(rows: list[dict[str, Any]], reports: list[dict[str, Any]]) -> str:
    config = load_config(SHIPPED)
    about = ABOUT.format(
        parameters=config.parameters / 1e6,
        layers=config.n_layers,
        width=config.d_model,
        codes=json.loads((SHIPPED / "vqvae" / "config.json").read_text())["num_vq_embeddings"],
        concepts=len(CORE),
        styles=len(STYLES),
        hours=rows[-1]["hours"],
        pages=rows[-1]["pages"],
    )
    scored = [
        (name, report[suite][row]["score"], aim)
        for suite, row, name, aim in AIMS
        for report in reports
        if suite in report
    ]
    missed = [f"- {name}: {score:.3f} ({aim:.2f})" for name, score, aim in scored if score < aim]
    if missed:
        about += UNFINISHED.format(missed="\n".join(missed))
    losses: list[str] = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        losses += ["", f"{stage}:", "", "| hours | pages | " + " | ".join(LOSSES) + " |"]
        losses += ["|---" * (len(LOSSES) + 2) + "|"]
        losses += [_row_of_losses(row) for row in rows if row["stage"] == stage]
    parts = [about, "## Loss by hours", "", LOSSES_OF, *losses]
    parts += ["", "## Scores by hours", "", "| hours | pages | t2i.overall | qa.overall | n a row |", "|---" * 5 + "|"]
    parts += [
        f"| {row['hours']:.2f} | {row['pages']:,} | {row['scores']['t2i']:.3f} | {row['scores']['qa']:.3f} | "
        f"{row['scores']['n']} |"
        for row in rows
        if "scores" in row
    ]
    parts += ["", "## Scores"]
    for report in reports:
        settings = report["settings"]
        command = (
            f"dimoo eval stickers --n {settings['n']} --seed {settings['seed']} --suite {','.join(settings['suites'])} "
            f"--dtype {settings['dtype'].removeprefix('torch.')}"
        )
        command += f" --preset {settings['preset']}" if settings.get("preset") else ""
        parts += ["", f"`{command}` on these weights:", "", "| | score | n | 95 % |", "|---|---|---|---|"]
        parts += [f"| {name.strip()} | {score} | {n} | {ci} |" for name, score, n, ci in table(report)]
    return "\n".join([*parts, LIMITS])


def _row_of_losses(row: dict[str, Any]) -> str:
    found = [f"{row['losses'][name]:.2f}" if name in row["losses"] else "" for name in LOSSES]
    return f"| {row['hours']:.2f} | {row['pages']:,} | " + " | ".join(found) + " |"


def losses_by_hours(lines: list[dict[str, Any]]) -> list[tuple[float, int, dict[str, float]]]:
    """Hours of training, pages, and held-out losses, at each look."""
    hours, pages, found = 0.0, 0, []
    for line in lines:
        if "pages" in line:
            hours += (line["pages"] - pages) / max(line["pages_per_second"], 1e-9) / 3600
            pages = line["pages"]
        held = {name.removeprefix("held_out/loss/"): value for name, value in line.items() if "held_out" in name}
        if held:
            found.append((hours, pages, held))
    if not found:
        raise ValueError("the run has no held-out losses yet")
    return found


if __name__ == "__main__":
    main()
