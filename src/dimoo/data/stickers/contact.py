"""A contact sheet of what the model is fed: every kind of record, pictures above words.

In: a seed and a number of families. Out: a PNG. Run as `python -m dimoo.data.stickers.contact --into sheet.png`.
"""

import argparse
import textwrap
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dimoo.data.records import Record
from dimoo.data.stickers.families import family

_COLUMNS = 5
_PICTURE, _GAP, _LINE, _LINES, _PICTURES = 128, 6, 11, 6, 3
_CELL = (_PICTURES * (_PICTURE + _GAP), _PICTURE + _LINES * _LINE + 3 * _GAP)
_WRAP = 66
_MARKED = np.array((255, 0, 255))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a contact sheet of training records.")
    parser.add_argument("--into", type=Path, default=Path("contact.png"))
    parser.add_argument("--seed", type=int, default=0, help="the first family")
    parser.add_argument("--families", type=int, default=40)
    parser.add_argument("--each", type=int, default=2, help="records of a task and kind")
    arguments = parser.parse_args()
    records = [r for seed in range(arguments.seed, arguments.seed + arguments.families) for r in family(seed)]
    sheet(_some_of_each(records, arguments.each)).save(arguments.into)
    print(arguments.into)


def sheet(records: list[Record]) -> Image.Image:
    """The records laid out in rows: inputs, then the answer; the masked part tinted."""
    rows = -(-len(records) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * _CELL[0], rows * _CELL[1]), "white")
    for index, record in enumerate(records):
        row, column = divmod(index, _COLUMNS)
        _lay(page, record, left=column * _CELL[0], top=row * _CELL[1])
    return page


def _some_of_each(records: list[Record], count: int) -> list[Record]:
    kinds: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        kinds[record.task, record.kind].append(record)
    return [record for key in sorted(kinds) for record in kinds[key][:count]]


def _lay(page: Image.Image, record: Record, *, left: int, top: int) -> None:
    pictures = [*record.images, *([] if record.answer_image is None else [record.answer_image])]
    for index, picture in enumerate(pictures):
        shown = picture
        if index == 0 and record.mask is not None:
            shown = np.where(record.mask[..., None], picture // 2 + _MARKED // 2, picture).astype(np.uint8)
        page.paste(Image.fromarray(shown), (left + index * (_PICTURE + _GAP), top))
    turns = [f"{question} — {answer}" for question, answer in record.history]
    answer = "" if record.answer_text is None else f"= {record.answer_text}"
    text = [f"[{record.task} {record.kind}]", *turns, record.prompt, answer]
    lines = [line for part in text for line in textwrap.wrap(part, _WRAP)]
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    for index, line in enumerate(lines[:_LINES]):
        pen.text((left, top + _PICTURE + _GAP + index * _LINE), line, fill="black", font=font)


if __name__ == "__main__":
    main()
