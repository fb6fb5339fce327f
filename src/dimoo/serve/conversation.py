"""The messages of a chat request as what the model reads: words, pictures, finished turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from dimoo.serve.errors import invalid
from dimoo.serve.fetch import Fetcher
from dimoo.serve.pictures import PictureReader
from dimoo.serve.schema import ChatMessage, Part
from dimoo.serve.settings import ServeSettings
from dimoo.tasks.understand import Message

SYSTEM_ROLES = ("system", "developer")


@dataclass(kw_only=True, eq=False)
class _Turn:
    words: list[str] = field(default_factory=list)
    pictures: list[Image.Image] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversation:
    """The open question with its pictures, the finished turns before it, and the words of system messages."""

    system: str
    words: str
    pictures: tuple[Image.Image, ...]
    history: tuple[Message, ...]

    @property
    def to_edit(self) -> tuple[Image.Image, ...]:
        """What an edit is about: the question's pictures, else the last picture that was shown or drawn."""
        if self.pictures:
            return self.pictures
        for message in reversed(self.history):
            if isinstance(message.answer, Image.Image):
                return (message.answer,)
            if message.pictures:
                return message.pictures[-1:]
        return ()


class ConversationReader:
    """Reads one request's messages: at most so many words and pictures."""

    def __init__(self, settings: ServeSettings) -> None:
        self.limits = settings.limits
        self.reader = PictureReader(self.limits.picture_pixels, self.limits.pictures)
        self.fetcher = Fetcher(settings.remote_hosts, self.limits.body_bytes)

    async def read(self, messages: Sequence[ChatMessage]) -> Conversation:
        """Several messages of the user in a row are one turn, system messages after the first of the user among them.
        Where only system messages come before an assistant's (some clients greet) or are all there is, they are what
        the user said."""
        if len(messages) > self.limits.messages:
            raise invalid(f"{len(messages)} messages are more than {self.limits.messages}", "messages")
        turn = _Turn()
        history: list[Message] = []
        system: list[str] = []
        for index, message in enumerate(messages):
            param = f"messages.{index}.content"
            parts = [Part(type="text", text=message.content)] if isinstance(message.content, str) else message.content
            words, pictures = await self._parts(parts or [], param)
            if message.role in SYSTEM_ROLES and not (history or turn.words or turn.pictures):
                system += words
                turn.pictures += pictures
            elif message.role == "assistant":
                _, drawn = await self._parts(message.images or [], f"messages.{index}.images")
                if not turn.words and not history:
                    turn.words, system = system, []
                if not turn.words and not turn.pictures:
                    raise invalid("an assistant's message must follow a user's", f"messages.{index}.role")
                answer = drawn[-1] if drawn else (pictures[-1] if pictures else "\n".join(words))
                history.append(_message(turn, answer))
                turn = _Turn()
            else:
                turn.words += words
                turn.pictures += pictures
        if messages[-1].role == "assistant":
            raise invalid("the last message must be the user's", "messages")
        if not turn.words and not history:
            turn.words, system = system, []
        open_turn = _message(turn, "")
        return Conversation(
            system="\n".join(system), words=open_turn.words, pictures=open_turn.pictures, history=tuple(history)
        )

    async def _parts(self, parts: Sequence[Part], param: str) -> tuple[list[str], list[Image.Image]]:
        words, pictures = [], []
        for index, part in enumerate(parts):
            where = f"{param}.{index}"
            if part.type == "text":
                words.append(part.text or "")
            elif part.image_url is None:
                raise invalid("a part of type image_url needs image_url.url", where)
            else:
                data = await self.fetcher.get(part.image_url.url, f"{where}.image_url.url")
                pictures.append(await asyncio.to_thread(self.reader.read, data, f"{where}.image_url.url"))
        return words, pictures


def _message(turn: _Turn, answer: str | Image.Image) -> Message:
    return Message(words="\n".join(turn.words), pictures=tuple(turn.pictures), answer=answer)
