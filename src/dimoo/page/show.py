"""A page for human eyes: tags by name, text as words or ids, pictures as the grids they are.

In: a page, and for words the tokenizer's decoder. Out: one string; a line for every stretch of a span and for every
row of a picture. A masked position is a box, a writable one that is filled carries an apostrophe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dimoo.page.page import Page

MASKED, NEWLINE, WRITABLE = "▢", "⏎", "'"
COLOURS = {"tag": "36", "text": "37", "image": "32", "output": "33", "masked": "31"}  # ANSI: cyan, white, green, ...


def show(page: Page, *, colour: bool = True, text: Callable[[Sequence[int]], str] | None = None) -> str:
    """The page as lines `kind  start  content`; `text` decodes runs of text ids, else they are shown as numbers."""
    begins, labels = _lines(page)
    ids, writable = page.ids.tolist(), page.writable.tolist()
    lines = []
    for start, stop in pairwise([*begins, len(page)]):
        words = _words(page, ids[start:stop], writable[start:stop], text)
        shown = " ".join(_paint(word, kind) if colour else word for word, kind in words)
        lines.append(f"{labels.get(start, ''):<7}{start:>6}  {shown}".rstrip())
    return "\n".join(lines)


def _lines(page: Page) -> tuple[list[int], dict[int, str]]:
    """Where lines begin: at every span's start and stop, and at every row of a picture; and what to call them."""
    begins: set[int] = {0}
    labels: dict[int, str] = {}
    for span in page.spans:
        labels[span.start] = span.kind
        begins |= {span.start, span.stop}
        if span.grid is not None:
            rows, columns = span.grid
            body = span.start + (span.kind == "image")  # an input picture's span opens with its tag
            begins |= {body + row * (columns + 1) for row in range(rows + 1)}
    return sorted(begin for begin in begins if begin < len(page)), labels


def _words(
    page: Page, ids: list[int], writable: list[bool], text: Callable[[Sequence[int]], str] | None
) -> list[tuple[str, str]]:
    """What is printed for a line's ids, each with the name of its colour."""
    vocab = page.vocab
    tags = {value: f"<{name}>" for name, value in vocab.specials().items()} | {vocab.newline: NEWLINE}
    wide = len(str(vocab.codes - 1))
    words: list[tuple[str, str]] = []

    def kind_of(item: tuple[int, bool]) -> str:
        value = item[0]
        if value == vocab.mask:
            return "masked"
        if value >= vocab.image_offset:
            return "output" if item[1] else "image"
        return "tag" if value in tags else "text"

    for kind, run in groupby(zip(ids, writable, strict=True), key=kind_of):
        items = list(run)
        if kind == "text" and text is not None:
            words.append((repr(text([value for value, _ in items])), kind))
            continue
        for value, open_ in items:
            mark = WRITABLE if open_ and kind != "masked" else ""
            if kind == "masked":
                words.append((MASKED, kind))
            elif kind == "tag":
                words.append((tags[value] + mark, kind))
            elif kind == "text":
                words.append((f"{value}{mark}", kind))
            else:
                words.append((f"{value - vocab.image_offset:>{wide}}{mark}", kind))
    return words


def _paint(word: str, kind: str) -> str:
    return f"\x1b[{COLOURS[kind]}m{word}\x1b[0m"
