"""What bodies mean for a checkpoint: lengths and steps of answers that always fit each other."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from PIL import Image

from dimoo.pipeline import Pipeline
from dimoo.sampling.presets import TEXT
from dimoo.serve.conversation import Conversation
from dimoo.serve.errors import ApiError
from dimoo.serve.schema import ChatBody, EditBody, GenerationBody
from dimoo.serve.settings import Limits
from dimoo.serve.translate import Translator
from dimoo.tasks.base import Defaults, TextOptions

AUTHORS = Defaults()
STICKERS = Defaults(answer_length=64, block_length=32, text_steps=32)
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


def test_a_preset_of_answers_is_the_packages_own(pipeline: Pipeline) -> None:
    asked = {"messages": [{"role": "user", "content": "what?"}]}
    translator = Translator(tools=pipeline.tools, limits=Limits())
    for name in TEXT:
        settings = translator.text_options(ChatBody(preset=name, **asked)).settings(pipeline.tools.defaults)
        assert settings == TextOptions(preset=name).settings(pipeline.tools.defaults)
    translator = Translator(tools=pipeline.tools, limits=Limits(steps=2))
    for name, preset in TEXT.items():
        settings = translator.text_options(ChatBody(preset=name, **asked)).settings(pipeline.tools.defaults)
        assert (settings.steps, settings.threshold) == (2, preset.threshold)


def test_a_quality_is_a_share_of_the_steps_that_would_be_taken(pipeline: Pipeline) -> None:
    # Failed: half of the checkpoint's full number, which can be more than its recommended preset takes.
    defaults = Defaults(steps=32, edit_preset="balanced")
    translator = Translator(tools=dataclasses.replace(pipeline.tools, defaults=defaults), limits=Limits())
    for preset in ("quality", "balanced", None):
        body = EditBody(prompt="a fox", preset=preset)
        whole = translator.options(body, edit=True).settings(defaults, edit=True).steps
        half = translator.options(body.model_copy(update={"quality": "medium"}), edit=True)
        assert half.settings(defaults, edit=True).steps == whole // 2


def test_the_checkpoints_own_steps_are_cut_to_the_limit_and_others_refused(pipeline: Pipeline) -> None:
    translator = Translator(tools=pipeline.tools, limits=Limits(steps=2))
    assert pipeline.tools.defaults.steps > 2
    for body in (GenerationBody(prompt="a fox"), GenerationBody(prompt="a fox", preset="balanced")):
        (task,) = translator.generation(body)
        assert task.settings(pipeline.tools).steps == 2
    (task,) = translator.edit(EditBody(prompt="a fox"), [Image.new("RGB", (64, 64))], None)
    assert task.settings(pipeline.tools).steps == 2
    with pytest.raises(ApiError, match="3 steps"):
        translator.generation(GenerationBody(prompt="a fox", num_inference_steps=3))


def test_a_picture_is_not_larger_than_the_limit_because_no_size_was_named(pipeline: Pipeline) -> None:
    translator = Translator(tools=pipeline.tools, limits=Limits(output_pixels=1024))
    with pytest.raises(ApiError, match="pixels"):
        translator.generation(GenerationBody(prompt="a fox"))
    with pytest.raises(ApiError, match="pixels"):
        translator.edit(EditBody(prompt="a fox"), [Image.new("RGB", (64, 64))], None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expand": (0, 0, 0, 16), "box": (0, 0, 8, 8)}, "expand"),
        ({"expand": (0, 0, 0, 16), "size": "32x32"}, "size"),
        ({"expand": (0, 0, 0, 16), "edit_type": "edit_add"}, "edit_type"),
        ({"box": (0, 0, 8, 8), "edit_type": "edit_remove"}, "edit_type"),
        ({"expand": (-200, 0, 0, 0)}, "expand"),
    ],
)
def test_fields_that_exclude_each_other_are_refused(pipeline: Pipeline, fields: dict, param: str) -> None:
    translator = Translator(tools=pipeline.tools, limits=Limits())
    with pytest.raises(ApiError) as error:
        translator.edit(EditBody(prompt="a fox", **fields), [Image.new("RGB", (64, 64))], None)
    assert error.value.param == param


def test_system_words_give_way_to_the_question(pipeline: Pipeline) -> None:
    translator = Translator(tools=pipeline.tools, limits=Limits())
    body = ChatBody(messages=[{"role": "user", "content": "x"}])
    question = "what colour is the fox?"
    for system, most in (("Be brief.", 9), ("Be brief. " * 2000, 20_000)):
        talk = Conversation(system=system, words=question, pictures=(), history=())
        (task,) = translator.chat_text(body, talk)
        kept = task.question.removesuffix(f"\n{question}")
        assert kept != task.question and system.startswith(kept) and 0 < len(kept) <= most
        ids = pipeline.tools.prompt("understanding", task.question)
        assert len(ids) <= pipeline.tools.defaults.prompt_limit
        assert question in pipeline.tools.text.decode(ids)
