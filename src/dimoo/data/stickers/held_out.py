"""What training never sees: a fixed 5 % of the (concept, style) cells, 10 % of the ordered concept pairs, and the
evaluation seeds.

The lists lie in a committed file, drawn by `draw_lots` once, and never change while one model is compared with
another. A cell is one drawing; a pair (a, b) is a scene in which `a` comes before `b` (see `Scene.pairs`), whatever
their styles and the wording.
"""

import json

import numpy as np

from dimoo.data.stickers.catalogue import CORE, SHIPPED, STYLES

_FILE = SHIPPED / "held_out.json"
_CELL_SHARE, _PAIR_SHARE = 0.05, 0.10
_SEED = 20251
_EVALUATION_SEEDS = (0, 10_000)


def draw_lots() -> dict[str, object]:
    """The content of the file: at most one style of a concept is held out, and the styles in turn."""
    rng = np.random.default_rng(_SEED)
    names = list(CORE)
    concepts = rng.choice(names, size=round(_CELL_SHARE * len(names) * len(STYLES)), replace=False).tolist()
    pairs = [(a, b) for a in names for b in names if a != b]
    chosen = sorted(rng.choice(len(pairs), size=round(_PAIR_SHARE * len(pairs)), replace=False).tolist())
    seconds: dict[str, list[str]] = {}
    for first, second in (pairs[index] for index in chosen):
        seconds.setdefault(first, []).append(second)
    return {
        "evaluation seeds": _EVALUATION_SEEDS,
        "cells": {name: STYLES[index % len(STYLES)] for index, name in enumerate(concepts)},
        "pairs": seconds,
    }


_lists = json.loads(_FILE.read_text(encoding="utf-8"))
CELLS: frozenset[tuple[str, str]] = frozenset(_lists["cells"].items())
PAIRS: frozenset[tuple[str, str]] = frozenset((a, b) for a, seconds in _lists["pairs"].items() for b in seconds)
EVALUATION_SEEDS = range(*_lists["evaluation seeds"])
