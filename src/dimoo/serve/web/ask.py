"""The tab that answers: a conversation about one or several pictures; answers appear with their gaps while filled.

What is shown of the conversation stays on this side of the wire (`told`): a chatbot's value that came from a browser
could name any file, and any component to open it with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import gradio as gr

from dimoo.serve.chat import drafted
from dimoo.serve.conversation import Conversation
from dimoo.serve.errors import ApiError
from dimoo.serve.schema import ChatBody, ChatMessage
from dimoo.serve.service import Service
from dimoo.serve.web.form import Takes
from dimoo.serve.web.runs import watch
from dimoo.serve.web.uploads import read_file, reader_of
from dimoo.tasks.understand import Message, Understand


def ask_tab(service: Service) -> Takes:
    turns = gr.State([], time_to_live=3600)
    told = gr.State([], time_to_live=3600)
    answered = gr.State(False, time_to_live=3600)
    chat = gr.Chatbot(label="Conversation", height=420, buttons=[])
    status = gr.Markdown("Ready.", elem_classes="status")
    box = gr.MultimodalTextbox(
        label="Question", placeholder="What is in the picture?", file_count="multiple", file_types=["image"]
    )
    with gr.Row():
        cancel = gr.Button("Cancel", min_width=100)
        clear = gr.Button("New conversation", min_width=100)

    async def ask(value: Any, shown: list[Any], done: list[Message]) -> AsyncGenerator[tuple[Any, ...], None]:
        words, files = (value or {}).get("text") or "", (value or {}).get("files") or []
        try:
            task = await asyncio.to_thread(question, service, words, files, done)
        except (ApiError, ValueError) as error:
            yield shown, shown, done, f"⚠ {error}", False
            return
        asked = [{"role": "user", "content": {"path": path}} for path in files]
        before, shown = shown, [*shown, *asked, {"role": "user", "content": words}]
        async for view in watch(service, task):
            if view.finished is not None:
                answer = view.finished.result.text or ""
                turn = Message(words=words, pictures=task.pictures, answer=answer)
                said = {"role": "assistant", "content": answer or "(no words)"}
                now = [*shown, said]
                yield now, now, [*done, turn], view.status, True
            elif view.step is not None:
                draft = {"role": "assistant", "content": drafted(service.pipeline.tools.text, view.step)}
                yield [*shown, draft], before, done, view.status, False
            else:
                yield shown, before, done, view.status, False

    event = box.submit(ask, [box, told, turns], [chat, told, turns, status, answered], show_progress="hidden")
    event.success(lambda yes: None if yes else gr.skip(), answered, box, show_progress="hidden")
    cancel.click(lambda: "Cancelled.", None, status, cancels=[event], queue=False)
    clear.click(lambda: ([], [], [], "Ready."), None, [chat, told, turns, status], cancels=[event], queue=False)
    return Takes(take=lambda path: gr.skip() if path is None else {"text": "", "files": [path]}, outputs=[box])


def question(service: Service, words: str, files: list[str], done: list[Message]) -> Understand:
    """The next question of a conversation. ValueError or ApiError if it can't be asked."""
    earlier = [picture for turn in done for picture in turn.pictures]
    reader = reader_of(service, earlier)
    pictures = tuple(read_file(service, path, reader) for path in files)
    service.translator.check_words("".join([words, *(turn.words for turn in done)]))
    if not words.strip():
        raise ValueError("ask a question")
    body = ChatBody(messages=[ChatMessage(role="user", content=words)])
    talk = Conversation(system="", words=words, pictures=pictures, history=tuple(done))
    task = service.translator.chat_text(body, talk)[0]
    assert isinstance(task, Understand), "a question without a picture wanted is answered in words"
    return task
