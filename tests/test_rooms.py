"""The order of the rooms: a room imports only itself and rooms before it; lazy imports within functions count too.

Broken to try it: `from dimoo.eval import parity` inside a function of sampling/read.py.
"""

from __future__ import annotations

import ast
from pathlib import Path

import dimoo

ROOT = Path(dimoo.__file__).parent
ORDER = (
    ("vocab",),
    ("tokenizers",),
    ("page",),
    ("model",),
    ("diffusion",),
    ("sampling",),
    ("tasks",),
    ("pipeline",),
    ("cutout", "hints", "metadata"),
    ("films",),
    ("data",),
    ("eval",),  # before train: the trainer may ask the judge, the judge knows of no training
    ("train",),
    ("rl",),
    ("commands",),
    ("serve", "integrations"),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
DOORS = {"__init__", "__main__"}  # the package's own names (lazy) and `python -m dimoo`: they lead everywhere
NO_ROOM = {"__version__"}


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a file, or of a module, given as its path below the package."""
    return parts[0].removesuffix(".py")


def imports(file: Path) -> set[tuple[str, ...]]:
    """Modules of this package that a file imports anywhere, as paths below the package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "dimoo" else {module}
    return {tuple(name.split(".")[1:]) for name in found if name.startswith("dimoo.")}


def files() -> list[Path]:
    return sorted(file for file in ROOT.rglob("*.py") if "assets" not in file.parts)


def test_every_file_is_in_a_known_room() -> None:
    unknown = {room_of(file.relative_to(ROOT).parts) for file in files()} - set(LEVEL) - DOORS
    assert not unknown, f"rooms that the order does not name: {sorted(unknown)}"


def test_a_room_imports_only_rooms_before_it() -> None:
    wrong = []
    for file in files():
        room = room_of(file.relative_to(ROOT).parts)
        if room in DOORS:
            continue
        for module in imports(file):
            other = room_of(module)
            if other == room or other in NO_ROOM:
                continue
            if LEVEL.get(other, len(ORDER)) >= LEVEL.get(room, -1):
                wrong.append(f"{file.relative_to(ROOT)} imports dimoo.{'.'.join(module)}")
    assert not wrong, "\n".join(sorted(wrong))


def test_files_open_with_a_docstring() -> None:
    bare = [
        str(file.relative_to(ROOT))
        for file in files()
        if file.read_text().strip() and ast.get_docstring(ast.parse(file.read_text())) is None
    ]
    assert not bare
