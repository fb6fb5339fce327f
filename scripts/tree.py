"""The tree that the README prints: every module of the package with the first sentence of its docstring.

python scripts/tree.py           # print it
python scripts/tree.py --write   # put it into README.md
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKS = ("<!-- tree -->", "<!-- /tree -->")


def tree() -> str:
    lines = ["src/dimoo/"]
    package = ROOT / "src" / "dimoo"
    for path in sorted(package.rglob("*.py"), key=_order):
        words = summary(path)
        parts = path.relative_to(package).parts
        if path.name == "__init__.py" and len(parts) > 1:
            lines.append("  " * (len(parts) - 1) + parts[-2] + "/")
            continue
        lines.append(f"{'  ' * len(parts)}{path.name:<{24 - 2 * len(parts)}} {words}".rstrip())
    return "\n".join(lines)


def summary(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", first)[0]


def put(readme: str) -> str:
    """The README's text with the tree of today between its marks."""
    before, rest = readme.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    return f"{before}{MARKS[0]}\n```\n{tree()}\n```\n{MARKS[1]}{after}"


def _order(path: Path) -> tuple[object, ...]:
    """A folder's own __init__ before its files, files before folders."""
    *folders, name = path.relative_to(ROOT / "src" / "dimoo").parts
    return (*((1, folder) for folder in folders), (0, "" if name == "__init__.py" else name))


if __name__ == "__main__":
    if "--write" in sys.argv:
        file = ROOT / "README.md"
        file.write_text(put(file.read_text()))
    else:
        print(tree())
