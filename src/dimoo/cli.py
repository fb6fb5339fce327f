"""The command line: `dimoo COMMAND`. A table of commands, each imported when called, and one place for errors.

Exit codes: 0, 1 (a comparison or a check failed), 2 (bad input: one line that says what and what would do), 130
(interrupted).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from dimoo import __version__

# name: (where it is, what the list of commands says about it)
COMMANDS = {
    "demo": ("dimoo.commands.demo:demo", "Make a picture, an edit and an answer, and say what to try next."),
    "t2i": ("dimoo.commands.draw:t2i", "Draw a picture from words."),
    "edit": ("dimoo.commands.draw:edit", "Change a picture, or make one from a control map, a subject or a style."),
    "inpaint": ("dimoo.commands.draw:inpaint", "Draw a part of a picture anew."),
    "outpaint": ("dimoo.commands.draw:outpaint", "Grow a picture's canvas and draw the new border."),
    "understand": ("dimoo.commands.answer:understand", "Answer a question about any number of pictures."),
    "chat": ("dimoo.commands.answer:chat", "Talk about pictures, turn by turn."),
    "canny": ("dimoo.commands.files:canny", "Make a control map of edges from a picture."),
    "inspect": ("dimoo.commands.files:inspect", "Say how a picture was made."),
    "info": ("dimoo.commands.weights:info", "Parameters, memory, FLOPs and seconds of a model, before loading it."),
    "verify": ("dimoo.commands.weights:verify", "Check a checkpoint: ids, tensors, VQ model, a short sample."),
    "parity": ("dimoo.commands.weights:parity", "Compare with the answers that the authors' code gave."),
    "eval": ("dimoo.commands.judge:evaluate", "Score a checkpoint with the judge of stickers."),
    "bench": ("dimoo.commands.judge:bench", "Ways of sampling side by side: time, memory, FLOPs, score."),
    "convert": ("dimoo.commands.weights:convert", "Write a checkpoint in the authors' layout or in ours."),
    "serve": ("dimoo.serve.command:serve", "Serve the OpenAI endpoints and a web page."),
}

app = App(
    name="dimoo",
    version=__version__,
    suppress_keyboard_interrupt=False,
    help="Lumina-DiMOO: one masked transformer that draws, edits, inpaints and answers questions about pictures. "
    "Try first: dimoo demo",
)
for _name, (_place, _summary) in COMMANDS.items():
    app.command(_place, name=_name, help=_summary)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.WARNING, format="dimoo: %(message)s", stream=sys.stderr)
    try:
        code = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        return code if isinstance(code, int) else 0
    except (CycloptsError, ValueError) as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(error, 2)
    except MemoryError:
        return _fail("out of memory; try a smaller picture, fewer at a time (--n), or --dtype bfloat16", 2)


def _fail(error: object, code: int) -> int:
    """One line on standard error."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    print(f"dimoo: {' '.join(lines) or type(error).__name__}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
