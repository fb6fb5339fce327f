"""What the commands say: results on standard output, notes and progress on standard error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OUT = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
ERR = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=True)


def say(text: object) -> None:
    """A result."""
    OUT.print(text)


def note(text: str) -> None:
    """A remark: one line."""
    ERR.print(f"dimoo: {text}")


def show_table(rows: dict[str, object], title: str | None = None) -> None:
    """Names and values, a line each."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, str(value))
    OUT.print(table)


def write_report(file: Path | None, report: Any) -> None:
    """`--json FILE`: whole or not at all."""
    if file is not None:
        from dimoo.metadata import write_text

        write_text(file, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
