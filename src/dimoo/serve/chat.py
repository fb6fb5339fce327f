"""`POST /v1/chat/completions`: words and pictures in, words or a picture out, whole or as a stream.

A masked model fills an answer block by block and, within a block, in no order. What is streamed as content is the
beginning of the answer that is complete (it is never taken back); the whole answer with its gaps is sent as `draft`
with each step to those who ask for it (`stream_drafts`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dimoo.page.page import Page
from dimoo.serve.conversation import Conversation, ConversationReader
from dimoo.serve.errors import invalid
from dimoo.serve.images import ERRORS, len_of, report_unknown
from dimoo.serve.pictures import encode_picture, to_data_url
from dimoo.serve.schema import ChatBody
from dimoo.serve.service import Service
from dimoo.serve.streams import DONE, KEEPALIVE, event, stream, while_connected
from dimoo.serve.translate import AnyTask
from dimoo.serve.worker import Finished, Stepped
from dimoo.tokenizers.text import TextTokenizer

GAP = "░"
MOST_STOPS = 4


def chat_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1/chat", tags=["chat"])

    @router.post("/completions", responses=ERRORS)
    async def complete(body: ChatBody, request: Request) -> Response:
        """A question about pictures, a conversation, or (modalities with "image") a picture drawn or edited."""
        service.expect_model(body.model)
        service.expect_room()
        report_unknown(body)
        _refuse_unsupported(body)
        for index, message in enumerate(body.messages):
            parts = [message.content] if isinstance(message.content, str) else [p.text for p in message.content or []]
            service.translator.check_words("".join(part or "" for part in parts), f"messages.{index}.content")
        talk = await ConversationReader(service.settings).read(body.messages)
        reply = Reply(service, body, translate(service, body, talk))
        if body.stream:
            return await stream(request, reply.chunks())
        finished = await while_connected(request, service.results(reply.tasks))
        return JSONResponse(await reply.whole(finished))

    return router


def _refuse_unsupported(body: ChatBody) -> None:
    for name, given in (
        ("tools", body.tools),
        ("logprobs", body.logprobs),
        ("modalities", "audio" in (body.modalities or [])),
    ):
        if given:
            raise invalid(f"{name}: not supported by this model", name, "unsupported_parameter")


def translate(service: Service, body: ChatBody, talk: Conversation) -> list[AnyTask]:
    words = [talk.system, talk.words, *(message.words for message in talk.history)]
    words += [message.answer for message in talk.history if isinstance(message.answer, str)]
    service.translator.check_words("".join(words), "messages")
    if not talk.words.strip() and not body.edit_type:
        raise invalid("the last message has no words", "messages", "missing_prompt")
    if "image" in (body.modalities or []):
        return service.translator.chat_picture(body, talk.words, talk.to_edit)
    return service.translator.chat_text(body, talk)


class Reply:
    """One answer in the making: its id, its tasks (one a choice), and the shapes that it is sent in."""

    def __init__(self, service: Service, body: ChatBody, tasks: list[AnyTask]) -> None:
        self.service, self.body, self.tasks = service, body, tasks
        self.text = service.pipeline.tools.text
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        self.stops = stops_of(body)

    async def whole(self, finished: list[Finished]) -> dict[str, Any]:
        choices = []
        for index, one in enumerate(finished):
            message = {"role": "assistant", "content": self.content(one), **await self.images(one)}
            choices.append({"index": index, "message": message, "finish_reason": self.reason(one), "logprobs": None})
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage(finished)}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Chunks of all choices as they come, then the usage if wanted, then [DONE]."""
        sent = [""] * len(self.tasks)
        finished: list[Finished] = []
        begun = False
        async with aclosing(self.service.events(self.tasks, steps=True)) as events:
            async for index, step in events:
                if not begun:  # not before the request was taken: a refusal has a status, not a stream
                    for choice in range(len(self.tasks)):
                        yield self._chunk(choice, {"role": "assistant", "content": ""})
                    begun = True
                if isinstance(step, Finished):
                    finished.append(step)
                    rest = self.content(step)[len(sent[index]) :]
                    if rest:
                        yield self._chunk(index, {"content": rest})
                    if pictures := await self.images(step):
                        yield self._chunk(index, pictures)
                    yield self._chunk(index, {}, self.reason(step))
                elif isinstance(step, Stepped) and step.page.spans[-1].kind == "answer":
                    ready = held_back(cut(settled(self.text, step), self.stops), self.stops)
                    new = ready[len(sent[index]) :] if ready.startswith(sent[index]) else ""
                    draft = {"draft": drafted(self.text, step)} if self.body.stream_drafts else {}
                    if new or draft:
                        sent[index] += new
                        yield self._chunk(index, ({"content": new} if new else {}) | draft)
                else:
                    yield KEEPALIVE
        if self.body.stream_options is not None and self.body.stream_options.include_usage:
            yield event({**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage(finished)})
        yield DONE

    def content(self, one: Finished) -> str:
        return cut(one.result.text or "", self.stops)

    async def images(self, one: Finished) -> dict[str, Any]:
        """`images` of a message, as OpenRouter and others have it."""
        picture = one.result.picture
        if picture is None:
            return {}
        data = await asyncio.to_thread(encode_picture, picture, text=self.service.metadata(one.result))
        return {"images": [{"type": "image_url", "image_url": {"url": to_data_url(data)}, "index": 0}]}

    def reason(self, one: Finished) -> str:
        """stop if the answer came to its end (or a stop string), length if it filled all its places."""
        if one.result.text is None or self.content(one) != one.result.text:
            return "stop"
        return "length" if len(one.page.answer_ids()) == len_of(one.page, "answer") else "stop"

    def usage(self, finished: list[Finished]) -> dict[str, int]:
        page = finished[0].page  # all choices have read the same
        read = len_of(page, "prompt") + len_of(page, "image")
        written = sum(_written(one.page) for one in finished)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.service.name}

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})


def _written(page: Page) -> int:
    return len(page.answer_ids()) if page.spans[-1].kind == "answer" else int(page.writable.sum())


def stops_of(body: ChatBody) -> list[str]:
    """The stop strings of a request, at most `MOST_STOPS` as in OpenAI's API."""
    given = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(given) > MOST_STOPS:
        raise invalid(f"at most {MOST_STOPS} stop strings, got {len(given)}", "stop")
    return [stop for stop in given if stop]


def cut(text: str, stops: list[str]) -> str:
    """The text before the first stop string."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def held_back(text: str, stops: list[str]) -> str:
    """The text without an end that may be the beginning of a stop string."""
    longest = max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
    return text[: len(text) - longest]


def settled(text: TextTokenizer, step: Stepped) -> str:
    """The beginning of the answer that no later step changes; nothing that a later byte might complete."""
    vocab, ids = step.page.vocab, step.ids.tolist()
    ends = (vocab.mask, vocab.answer_end, vocab.answer_pad)
    first = next((i for i, value in enumerate(ids) if value in ends), len(ids))
    return text.decode(ids[:first]).lstrip().rstrip("\ufffd").rstrip()


def drafted(text: TextTokenizer, step: Stepped) -> str:
    """The whole answer as it stands, a sign for every gap."""
    vocab, words = step.page.vocab, ""
    run: list[int] = []
    for value in step.ids.tolist():
        if value in (vocab.answer_end, vocab.answer_pad):
            break
        if value == vocab.mask:
            words, run = words + text.decode(run) + GAP, []
        else:
            run.append(value)
    return (words + text.decode(run)).strip()
