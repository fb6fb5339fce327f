"""A picture of quality against time: a dot for every way, the plain curve as a line, the twin's time as another.

In: rows of `dimoo bench`. Out: a PNG. Time runs to the right on a logarithmic scale, the score upwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dimoo.eval.bench import Row

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 1000, 640, 80, 50, 30, 60
INK, GREY, PLAIN, OTHER, TWIN = "#222222", "#dddddd", "#2a6fdb", "#d0453e", "#777777"


def chart(rows: Sequence[Row], title: str, file: Path) -> None:
    """Rows without a score are left out, but for the twin's, whose time is marked. ValueError if none has one."""
    shown, twins = [row for row in rows if row.score is not None], [row for row in rows if row.name == "twin"]
    if not shown:
        raise ValueError("no row has a score to draw")
    times = [row.seconds for row in (*shown, *twins)]
    slow, quick = max(times) * 1.3, min(times) / 1.3
    scores = [row.score.score for row in shown if row.score is not None]
    low, high = math.floor(20 * min(scores) - 0.5) / 20, math.ceil(20 * max(scores) + 0.5) / 20

    def across(seconds: float) -> float:
        return LEFT + math.log(seconds / quick) / math.log(slow / quick) * (WIDTH - LEFT - RIGHT)

    def place(row: Row) -> tuple[float, float]:
        assert row.score is not None, "rows without a score are left out"
        y = (row.score.score - low) / (high - low)
        return across(row.seconds), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, small, large = ImageDraw.Draw(image), ImageFont.load_default(13), ImageFont.load_default(18)
    pen.text((LEFT, 14), title, fill=INK, font=large)
    for mark in (step / 20 for step in range(round(20 * low), round(20 * high) + 1)):
        y = HEIGHT - BOTTOM - (mark - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        pen.line((LEFT, y, WIDTH - RIGHT, y), fill=GREY)
        pen.text((LEFT - 12, y), f"{mark:.2f}", fill=INK, font=small, anchor="rm")
    for mark in (m * 10.0**e for e in range(-4, 4) for m in (1, 2, 5)):
        if quick <= mark <= slow:
            x = across(mark)
            pen.line((x, TOP, x, HEIGHT - BOTTOM), fill=GREY)
            pen.text((x, HEIGHT - BOTTOM + 8), f"{mark:g} s", fill=INK, font=small, anchor="mt")
    pen.text(
        ((LEFT + WIDTH) / 2, HEIGHT - 22), "seconds of sampling a request, median", fill=INK, font=small, anchor="mt"
    )
    for row in twins:
        x = across(row.seconds)
        pen.line((x, TOP, x, HEIGHT - BOTTOM), fill=TWIN, width=2)
        pen.text((x - 6, TOP + 4), row.name, fill=TWIN, font=small, anchor="rt")
    plain = [row for row in shown if re.fullmatch(r"plain \d+", row.name)]
    curve = sorted(map(place, plain), key=lambda point: point[0])
    if len(curve) > 1:
        pen.line(curve, fill=PLAIN, width=2)
    for row in shown:
        x, y = place(row)
        colour = PLAIN if row in plain else OTHER
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
        pen.text((x + 8, y - 8), row.name, fill=colour, font=small)
    image.save(file)
