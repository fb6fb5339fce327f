"""Commands that give words: understand, chat. Heavy imports wait for the call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from dimoo.commands.console import note, say, write_report
from dimoo.commands.options import ANSWER, WHERE, AnswerFlags, JsonFile, Where

HELP = "/image FILE adds a picture to the next question, /new starts over, /quit leaves"


def understand(
    *inputs: str,
    sampling: AnswerFlags = ANSWER,
    where: Where = WHERE,
    json: JsonFile = None,
) -> None:
    """Answer a question about pictures: IMAGE... QUESTION.

    Parameters
    ----------
    inputs
        Any number of pictures, none included, and last the question.
    """
    from dimoo.commands.session import ask, session
    from dimoo.metadata import record
    from dimoo.tasks.base import TextOptions
    from dimoo.tasks.understand import Understand

    if not inputs:
        raise ValueError("give a question, after any number of pictures: dimoo understand IMAGE... QUESTION")
    *files, question = inputs
    with session(where) as one:
        pictures = tuple(one.album.open(file) for file in files)
        one.hint("", pictures)
        request = Understand(
            question=question, pictures=pictures, seed=sampling.seed or 0, options=TextOptions(**sampling.given())
        )
        result = ask(one.pipe, request)
        say(result.text)
        made = record(result, defaults=one.pipe.tools.defaults, checkpoint=one.checkpoint, source=one.album.source)
        write_report(json, {"answer": result.text, **made})


def chat(
    *images: Path,
    sampling: AnswerFlags = ANSWER,
    where: Where = WHERE,
) -> None:
    """Talk about pictures, turn by turn; works with piped input, too.

    Parameters
    ----------
    images
        Pictures that the first question is about.
    """
    from dimoo.commands.session import ask, session
    from dimoo.tasks.base import Picture, TextOptions
    from dimoo.tasks.understand import Message, Understand

    with session(where) as one:
        options = TextOptions(**sampling.given())
        waiting: list[Picture] = [one.album.open(image) for image in images]
        history: tuple[Message, ...] = ()
        if sys.stdin.isatty():
            note(HELP)
        for line in _lines():
            command, _, rest = line.partition(" ")
            if command == "/quit":
                return
            if command == "/new":
                history, waiting = (), []
                continue
            try:
                if command == "/image":
                    waiting.append(one.album.open(rest.strip()))
                    continue
                if command.startswith("/"):
                    raise ValueError(f"unknown command {command}; {HELP}")
                request = Understand(
                    question=line,
                    pictures=tuple(waiting),
                    history=history,
                    seed=sampling.seed or 0,
                    options=options,
                )
                answer = ask(one.pipe, request).text or ""
            except ValueError as error:  # a slip of one turn does not end the conversation
                note(str(error))
                continue
            say(answer)
            turn = Message(words=line, pictures=tuple(waiting), answer=answer)
            history, waiting = (*history, turn), []


def _lines() -> Iterator[str]:
    """Lines that say something, until the input ends; with a prompt and editing on a terminal."""
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401  (line editing and history for input())
    while True:
        try:
            line = input("you: ") if terminal else sys.stdin.readline()
        except EOFError:
            return
        if not terminal and not line:
            return
        if line.strip():
            yield line.strip()
