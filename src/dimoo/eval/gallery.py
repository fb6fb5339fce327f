"""The page of an evaluation that a person can look at: what was asked, the pictures, what the judge saw.

In: outcomes and kept pictures in a folder. Out: `index.html` beside them, readable offline.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from dimoo.eval.stickers import Outcome

_STYLE = """
body{font:14px system-ui,sans-serif;margin:2em auto;max-width:1200px;color:#222}
h2{border-bottom:1px solid #ddd;padding-bottom:.2em}
.trials{display:flex;flex-wrap:wrap;gap:12px}
figure{margin:0;width:270px;border-left:5px solid;padding-left:8px}
figure.yes{border-color:#2a9d55}figure.no{border-color:#d0453e}figure.part{border-color:#e0a030}
figure img{width:128px;height:auto;image-rendering:pixelated;margin-right:2px}
figcaption{font-size:12px}figcaption em{color:#666}
"""


def keep(folder: Path, key: str, index: int, pictures: Sequence[np.ndarray]) -> None:
    """Write a trial's pictures, inputs first, where `write` looks for them."""
    (folder / "pictures").mkdir(exist_ok=True)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / "pictures" / f"{key}-{index}-{number}.png")


def write(folder: Path, outcomes: Sequence[Outcome], report: dict[str, Any], *, limit: int) -> Path:
    """Write index.html: a section a row of the report, the first `limit` trials of each."""
    rows: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.index < limit:
            rows[outcome.key].append(outcome)
    sections = []
    for key, row in sorted(rows.items()):
        figures = "".join(_figure(folder, outcome) for outcome in sorted(row, key=lambda o: o.index))
        sections.append(f"<h2>{html.escape(key)}</h2><div class=trials>{figures}</div>")
    name = html.escape(str(report.get("settings", {}).get("checkpoint", "")))
    page = folder / "index.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><title>{name}: stickers</title><style>{_STYLE}</style>"
        f"<h1>{name}, judged on stickers</h1>{''.join(sections)}",
        encoding="utf-8",
    )
    return page


def _figure(folder: Path, outcome: Outcome) -> str:
    files = sorted((folder / "pictures").glob(f"{outcome.key}-{outcome.index}-*.png"))
    images = "".join(f'<img src="pictures/{file.name}" alt="">' for file in files)
    kind = "yes" if outcome.score == 1 else "no" if outcome.score == 0 else "part"
    score = "" if outcome.score in (0, 1) else f" ({outcome.score:.2f})"
    return (
        f"<figure class={kind}>{images}<figcaption>{html.escape(outcome.asked)}{score}"
        f"<br><em>{html.escape(outcome.saw)}</em></figcaption></figure>"
    )
