"""What the README prints is true: the tree, the files that it links to, the commands of the Makefile."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TREE = runpy.run_path(str(ROOT / "scripts" / "tree.py"))
BENCH = runpy.run_path(str(ROOT / "scripts" / "bench_docs.py"))


def test_the_printed_tree_is_that_of_the_package() -> None:
    assert TREE["put"](README) == README, "python scripts/tree.py --write"


def test_measured_tables_are_those_of_the_reports() -> None:
    document = (ROOT / "docs" / "sampling.md").read_text()
    assert BENCH["put"](document) == document, "python scripts/bench_docs.py"


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in (ROOT / "src").rglob("*.py") if path.name != "__init__.py" and not TREE["summary"](path)]
    assert not silent


def test_links_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            assert "://" in target or (document.parent / target).exists(), f"{document.name} links to {target}"


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ +make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


def test_commands_beside_the_pictures_are_those_that_made_them() -> None:
    commands = runpy.run_path(str(ROOT / "scripts" / "photograph_model.py"))["COMMANDS"]
    printed = [re.sub(r"\s+#.*", "", line) for line in README.splitlines() if line.startswith("dimoo ")]
    assert not [command for command in commands if command not in printed]
