"""Commands on picture files: canny, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dimoo.commands.console import say, show_table, write_report
from dimoo.commands.options import JsonFile


def canny(
    image: Path,
    /,
    *,
    low: int = 100,
    high: int = 200,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> None:
    """Make a control map of edges, for `dimoo edit MAP PROMPT --type canny_control`.

    Parameters
    ----------
    image
        The picture.
    low
        Weaker edges than this are dropped, 0 to 255.
    high
        Stronger edges than this are kept, 0 to 255.
    output
        The file to write; without it, IMAGE.canny.png beside the picture.
    """
    from dimoo.metadata import save_picture
    from dimoo.tasks.controls import canny as edges
    from dimoo.tokenizers.resize import open_picture

    if not 0 <= low <= high <= 255:
        raise ValueError(f"--low {low} and --high {high} must lie in 0..255, low not above high")
    target = image.with_suffix(".canny.png") if output is None else output
    save_picture(edges(open_picture(image), low=low, high=high), target)
    say(target)


def inspect(file: Path, /, *, json: JsonFile = None) -> None:
    """Say how a picture was made: its request, seed, checkpoint and versions.

    Parameters
    ----------
    file
        A picture that dimoo wrote.
    """
    from dimoo.metadata import read_record

    made = read_record(file)
    show_table(_flat(made))
    say(f"\nrepeat it: dimoo {made['request'].get('task')} --from-image {file}")
    write_report(json, made)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested values as dotted names; what was left open is left out."""
    rows: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            rows |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            rows[f"{prefix}{name}"] = value
    return rows
