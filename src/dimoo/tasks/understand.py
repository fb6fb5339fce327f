"""Pictures and a question in, words out; a conversation about pictures; text alone.

Images stand just before the closing tag of the message that brings them, or, with `interleaved`, where the text says
`<image>`. Finished turns come first, each with its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from dimoo.page.page import Page, Turn, text_page
from dimoo.page.templates import CLOSING, opening
from dimoo.sampling.guidance import Guided
from dimoo.sampling.settings import TextSettings
from dimoo.tasks.base import Answer, Picture, TextOptions, Tools, check_prompt, grids, read_text

PLACE = "<image>"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A finished turn: what was asked, with which pictures, and the answer (words, or a picture)."""

    words: str
    pictures: tuple[Picture, ...] = ()
    answer: str | Picture = ""


@dataclass(frozen=True, kw_only=True)
class Understand:
    """A question about any number of pictures, none included, after any number of finished turns."""

    question: str
    pictures: tuple[Picture, ...] = ()
    history: tuple[Message, ...] = ()
    interleaved: bool = False
    seed: int = 0
    options: TextOptions = field(default_factory=TextOptions)

    def guided(self, tools: Tools) -> Guided:
        check_prompt(self.question, "question")
        area = tools.defaults.understand_area
        turns = [
            _turn(
                tools,
                message.words,
                grids(tools, message.pictures, area),
                first=index == 0,
                interleaved=self.interleaved,
                answer=tools.text.encode(message.answer) if isinstance(message.answer, str) else None,
                picture=None if isinstance(message.answer, str) else tools.codes(message.answer, area),
            )
            for index, message in enumerate(self.history)
        ]
        images = grids(tools, self.pictures, area)
        last = _turn(tools, self.question, images, first=not turns, interleaved=self.interleaved)
        return Guided(page(tools, [*turns, last], [tools.vocab.mask] * self.options.length(tools.defaults)))

    def settings(self, tools: Tools) -> TextSettings:
        return self.options.settings(tools.defaults)

    def read(self, tools: Tools, page: Page) -> Answer:
        return read_text(tools, page)


def page(tools: Tools, turns: Sequence[Turn], answer: Sequence[int]) -> Page:
    """The page of a conversation whose last turn is open."""
    *done, last = turns
    return text_page(last.prompt, answer, tools.vocab, images=last.images, places=last.places, history=done)


def _turn(
    tools: Tools,
    words: str,
    images: Sequence[Tensor],
    *,
    first: bool,
    interleaved: bool,
    answer: Sequence[int] | None = None,
    picture: Tensor | None = None,
) -> Turn:
    if not interleaved:
        prompt = tools.prompt("understanding", words) if first else tools.turn(words)
        return Turn(prompt=prompt, images=images, answer=answer, picture=picture)
    pieces = words.split(PLACE)
    if len(pieces) - 1 != len(images):
        raise ValueError(f"the text names {len(pieces) - 1} places {PLACE} for {len(images)} pictures")
    start = opening("understanding") if first else "<user>"
    encoded = [tools.text.encode(piece) for piece in (start + pieces[0], *pieces[1:-1], pieces[-1] + CLOSING)]
    if len(pieces) == 1:
        encoded = [tools.text.encode(start + words + CLOSING)]
    places = [sum(map(len, encoded[: i + 1])) for i in range(len(images))]
    ids = [value for part in encoded for value in part]
    return Turn(prompt=ids, images=images, places=places, answer=answer, picture=picture)


def question_turns(
    tools: Tools, question: str, images: Sequence[Tensor], history: Sequence[tuple[str, str]]
) -> list[Turn]:
    """Turns of a training example: the pictures come with the first message."""
    asked = [*(words for words, _ in history), question]
    answers: list[list[int] | None] = [*(tools.text.encode(answer) for _, answer in history), None]
    return [
        _turn(tools, words, images if index == 0 else (), first=index == 0, interleaved=False, answer=answers[index])
        for index, words in enumerate(asked)
    ]
