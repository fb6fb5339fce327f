"""No id of the authors' layout stands anywhere but in vocab.py: a checkpoint says what its ids are.

Broken to try it: `mask = 126336` in sampling/text.py.
"""

from __future__ import annotations

import ast
from pathlib import Path

import dimoo
from dimoo.vocab import AUTHORS_SIZE

ROOT = Path(dimoo.__file__).parent
LOWEST = 126_000
SIZES = {"model/config.py": {AUTHORS_SIZE}}  # the width of the published head is a size of the backbone, no id


def test_no_literal_ids() -> None:
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        if name == "vocab.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Constant) or isinstance(node.value, bool) or not isinstance(node.value, int):
                continue
            if LOWEST <= node.value <= AUTHORS_SIZE and node.value not in SIZES.get(name, set()):
                found.append(f"{name}:{node.lineno} {node.value}")
    assert not found, f"literal ids outside vocab.py: {found}"
