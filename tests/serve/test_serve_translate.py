"""What bodies mean for a checkpoint: lengths and steps of answers that always fit each other."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from dimoo.pipeline import Pipeline
from dimoo.serve.schema import ChatBody
from dimoo.serve.settings import Limits
from dimoo.serve.translate import Translator
from dimoo.tasks.base import Defaults

AUTHORS = Defaults()
STICKERS = Defaults(answer_length=32, block_length=32, text_steps=16)
ODD = Defaults(answer_length=100, block_length=30, text_steps=7)


@pytest.mark.parametrize("defaults", [AUTHORS, STICKERS, ODD], ids=["authors", "stickers", "odd"])
def test_any_length_and_steps_are_whole_blocks_of_whole_steps(pipeline: Pipeline, defaults: Defaults) -> None:
    tools = dataclasses.replace(pipeline.tools, defaults=defaults)
    translator = Translator(tools=tools, limits=Limits())
    for tokens, steps in itertools.product((None, 1, 2, 29, 31, 33, 255, 257, 1000, 10**6), (None, 1, 3, 7, 100, 256)):
        body = ChatBody(messages=[{"role": "user", "content": "what?"}], max_tokens=tokens, steps=steps)
        options = translator.text_options(body)
        length = options.length(defaults)
        settings = options.settings(defaults)
        assert 1 <= length <= min(tokens or defaults.answer_length, defaults.answer_length)
        blocks = settings.blocks(length)  # raises if anything is not a multiple
        assert steps is None or abs(settings.steps - steps) < blocks
