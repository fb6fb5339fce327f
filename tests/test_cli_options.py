"""The options of every command, as they are: a change of this list is a change of what people type.

To accept a change: python tests/test_cli_options.py > tests/cli_options.txt
"""

from importlib import import_module
from pathlib import Path

from dimoo.cli import COMMANDS, app

SNAPSHOT = Path(__file__).parent / "cli_options.txt"


def options() -> str:
    """A line a command, then one for each of its arguments and options with its choices."""
    lines = []
    for name, (place, _) in sorted(COMMANDS.items()):
        module, _, function = place.partition(":")
        command = app[name]
        assert command.default_command is getattr(import_module(module), function)
        lines.append(name)
        for argument in command.assemble_argument_collection(parse_docstring=False):
            if not argument.parse or not argument.show:
                continue
            choices = "|".join(argument.get_choices() or ())
            lines.append(f"  {' '.join(argument.names)}" + (f" = {choices}" if choices else ""))
    return "\n".join(lines) + "\n"


def test_options_are_the_snapshot() -> None:
    assert options() == SNAPSHOT.read_text()


if __name__ == "__main__":
    print(options(), end="")
