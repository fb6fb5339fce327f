"""`dimoo demo`: a picture, an edit and an answer, and what to try next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dimoo.commands.console import OUT, say
from dimoo.commands.options import WHERE, Saving, Where

PROMPT = "a fox on the left and an apple on the right on a blue background"
EDIT = "replace the apple with a cat"
QUESTION = "what is on the left?"


def demo(
    *,
    output: Annotated[Path, Parameter(alias="-o")] = Path("demo"),
    seed: int = 0,
    where: Where = WHERE,
) -> None:
    """Make a picture, an edit of it and an answer about it, and say what to try next.

    Parameters
    ----------
    output
        The folder for the pictures.
    seed
        Of the noise.
    """
    from dimoo.commands.session import ask, draw, session
    from dimoo.metadata import check_writable
    from dimoo.tasks.edit import Edit
    from dimoo.tasks.text_to_image import TextToImage
    from dimoo.tasks.understand import Understand

    check_writable(output)
    drawn, edited = output / "picture.png", output / "edit.png"
    with session(where) as one:
        say(f"1. words in, picture out: {PROMPT!r}")
        draw(one, TextToImage(prompt=PROMPT, seed=seed), "t2i", Saving(output=drawn, save_steps=True))
        picture = one.album.open(drawn)
        say(f"2. picture and words in, picture out: {EDIT!r}")
        draw(one, Edit(picture=picture, prompt=EDIT, type="edit_replace", seed=seed), "edit", Saving(output=edited))
        say(f"3. picture and words in, words out: {QUESTION!r}")
        say(ask(one.pipe, Understand(question=QUESTION, pictures=(picture,), seed=seed)).text)
    OUT.print(
        "\nThree things to try:\n"
        "  dimoo t2i 'two yellow stars on a white background' --n 4 --save-steps\n"
        f"  dimoo inpaint {drawn} 'a fox on the left and a tree on the right on a blue background' --box 32 64 64 64\n"
        f"  dimoo chat {drawn}"
    )
