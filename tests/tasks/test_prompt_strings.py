"""The prompt strings of every task and edit type, as the authors' inference code builds them.

A stub tokenizer notes what it is asked to encode. Dense prediction is compared with what the authors' table intends;
their code never reaches it. Broken to try it: "according" spelt as in their training data; the style words exchanged.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_fixtures import Recorder, photo, stub_tools

from dimoo.tasks.edit import EDIT_TYPES, Edit
from dimoo.tasks.paint import Inpaint, Outpaint
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tasks.understand import Message, Understand

GOLDEN = json.loads((Path(__file__).parents[1] / "prompts.json").read_text())
PICTURE = photo(64, 64)
# Not types of ours: a spelling that the authors' test happens to know, and what they do with any other name.
FOREIGN = {"canny_dense", "something_else"}
EXPECTED = {
    **{name: strings for name, strings in GOLDEN["image_to_image"].items() if name not in FOREIGN},
    **GOLDEN["intended_dense_prediction"],
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_edits(name: str) -> None:
    recorder = Recorder()
    reference = PICTURE if EDIT_TYPES[name].pictures == 2 else None
    Edit(picture=PICTURE, prompt="a red fox", type=name, reference=reference).guided(stub_tools(recorder))
    assert recorder.strings == [EXPECTED[name]["prompt"], EXPECTED[name]["unconditional"]]


def test_every_edit_type_is_compared() -> None:
    """All but the views, which differ from the one compared by a word."""
    assert set(EDIT_TYPES) - set(EXPECTED) == {f"multi_view_{view}" for view in ("left", "right", "top", "bottom")}
    recorder = Recorder()
    Edit(picture=PICTURE, type="multi_view_left").guided(stub_tools(recorder))
    assert recorder.strings[0] == EXPECTED["multi_view_back"]["prompt"].replace("back view", "left view")


@pytest.mark.parametrize(
    "request_",
    [
        TextToImage(prompt="a red fox"),
        Inpaint(picture=PICTURE, prompt="a red fox", box=(0, 0, 16, 16)),
        Outpaint(picture=PICTURE, prompt="a red fox", expand=(16, 0, 0, 0)),
    ],
)
def test_pictures(request_: TextToImage | Inpaint | Outpaint) -> None:
    recorder = Recorder()
    request_.guided(stub_tools(recorder))
    assert recorder.strings == list(GOLDEN["text_to_image"].values())


def test_questions() -> None:
    recorder = Recorder()
    Understand(question="What is this?", pictures=(PICTURE,)).guided(stub_tools(recorder))
    assert recorder.strings == [GOLDEN["understanding"]["prompt"]]


def test_later_turns_have_no_system_prompt() -> None:
    # Broken to try it: the system prompt before every turn.
    recorder = Recorder()
    history = (Message(words="What is this?", pictures=(PICTURE,), answer="A fox."),)
    Understand(question="And now?", history=history).guided(stub_tools(recorder))
    assert recorder.strings == ["A fox.", GOLDEN["understanding"]["prompt"], "<user>And now?</user>"]
