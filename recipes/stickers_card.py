"""Write the model card of the small model from what was measured: nothing in it is typed in by hand.

What: reads the training run's `metrics.jsonl` and the report of `dimoo eval stickers --json`, and writes `README.md`
beside the shipped weights. `--scores` takes reports of earlier weights as PAGES=FILE, for the table of scores by hours.
Command: `python recipes/stickers_card.py --report scores.json`
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
    python recipes/stickers_merge.py         # near-identical codes become one
    python recipes/stickers_recogniser.py    # the judge
    python recipes/stickers_pretrain.py      # prepare, tokenize, train (see its docstring)

Two CPU cores, bfloat16 products. {hours:.1f} hours of the backbone so far, {pages:,} pages in {steps:,} steps.
"""

EARLY = """
**These are early weights**, published so that everything runs and training can go on from them: text to picture scores
{overall:.2f} overall. Backgrounds, places and colours follow the words; shapes hardly do yet, and most answers are
wrong.
"""

LIMITS = """
## Limits

- Tasks of tier A (text to picture, edits, style by words, canny both ways, inpainting, questions, captions) and tier B
  (subject, style by reference, outpainting, swap, move, recount, hed, depth) have a row above, whatever it says.
- Follow-up questions, comparisons of two pictures and talk without a picture are trained and not yet scored.
- Openpose, views of one object from several sides, and text in pictures: not by this model. The engine lays out their
  pages; these weights never saw one.
- It repeats what it was shown: 288 drawings. It is a yardstick and a teaching model, not an artist.
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", type=Path, default=RUN)
    arguments.add_argument("--report", type=Path, required=True)
    arguments.add_argument("--scores", nargs="*", default=[], help="PAGES=FILE of earlier weights")
    arguments.add_argument("--into", type=Path, default=SHIPPED / "README.md")
    given = arguments.parse_args()
    lines = [json.loads(line) for line in (given.run / "metrics.jsonl").read_text().splitlines()]
    report = json.loads(given.report.read_text())
    earlier = [(int(pages), json.loads(Path(file).read_text())) for pages, file in (s.split("=") for s in given.scores)]
    given.into.write_text(card(lines, report, earlier))


def card(lines: list[dict[str, Any]], report: dict[str, Any], earlier: list[tuple[int, dict[str, Any]]]) -> str:
    config = load_config(SHIPPED)
    curve = losses_by_hours(lines)
    about = ABOUT.format(
        parameters=config.parameters / 1e6,
        layers=config.n_layers,
        width=config.d_model,
        codes=json.loads((SHIPPED / "vqvae" / "config.json").read_text())["num_vq_embeddings"],
        concepts=len(CORE),
        styles=len(STYLES),
        hours=curve[-1][0],
        pages=curve[-1][1],
        steps=max(line["step"] for line in lines if any(name.startswith("held_out") for name in line)),
    )
    overall = report["t2i"]["overall"]["score"]
    if overall < 0.5:
        about += EARLY.format(overall=overall)
    losses = ["| hours | pages | " + " | ".join(LOSSES) + " |", "|---" * (len(LOSSES) + 2) + "|"]
    losses += [
        f"| {hours:.2f} | {pages:,} | " + " | ".join(f"{found.get(name, float('nan')):.2f}" for name in LOSSES) + " |"
        for hours, pages, found in curve
    ]
    scores = ["| | score | n | 95 % |", "|---|---|---|---|"]
    scores += [f"| {name.strip()} | {score} | {n} | {ci} |" for name, score, n, ci in table(report)]
    parts = [about, "## Loss by hours", "", "Nats a hidden position on held-out pages, averaged weights.", "", *losses]
    if earlier:
        parts += [
            "",
            "## Scores by training",
            "",
            "| pages | t2i.overall | qa.overall | n a row |",
            "|---|---|---|---|",
        ]
        parts += [
            f"| {pages:,} | {one['t2i']['overall']['score']:.3f} | {one['qa']['overall']['score']:.3f} | "
            f"{one['settings']['n']} |"
            for pages, one in earlier
        ]
    settings = report["settings"]
    command = (
        f"dimoo eval stickers --n {settings['n']} --seed {settings['seed']} --suite {','.join(settings['suites'])}"
    )
    parts += ["", "## Scores", "", f"`{command}` on these weights.", "", *scores, LIMITS]
    return "\n".join(parts)


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
