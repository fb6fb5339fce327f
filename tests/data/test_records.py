"""Records refuse what no page can be made of, in one line that names what was got."""

import numpy as np
import pytest

from dimoo.data.records import Record

PICTURE = np.zeros((128, 128, 3), np.uint8)
CODES = np.zeros((8, 8), np.uint16)
MASK = np.ones((128, 128), np.bool_)


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "text_to_image", "answer_image": PICTURE},
        {"task": "text_to_image", "answer_image": CODES},
        {"task": "edit", "kind": "edit_add", "images": (CODES,), "answer_image": CODES},
        {"task": "inpaint", "images": (PICTURE,), "answer_image": PICTURE, "mask": MASK},
        {"task": "understand", "kind": "what", "images": (PICTURE, PICTURE), "answer_text": "a fox"},
        {"task": "chat", "answer_text": "a mammal"},
    ],
)
def test_accepts(fields):
    assert Record(prompt="words", **fields).prompt == "words"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "sing", "answer_text": "la"}, "unknown task 'sing'"),
        ({"task": "edit", "kind": "blur", "images": (PICTURE,), "answer_image": PICTURE}, "unknown edit kind 'blur'"),
        ({"task": "chat"}, "needs an answer image or an answer text"),
        ({"task": "text_to_image", "answer_image": PICTURE, "answer_text": "a"}, "not both"),
        ({"task": "text_to_image", "answer_text": "a fox"}, "cannot be answered with text"),
        ({"task": "understand", "images": (PICTURE,), "answer_image": PICTURE}, "cannot be answered with an image"),
        ({"task": "understand", "answer_text": "a fox"}, "cannot have 0 input images"),
        ({"task": "text_to_image", "images": (PICTURE,), "answer_image": PICTURE}, "cannot have 1 input images"),
        ({"task": "edit", "kind": "edit", "images": (PICTURE,), "answer_image": CODES}, "pictures or codes, not both"),
        ({"task": "text_to_image", "answer_image": PICTURE.astype(float)}, "neither a uint8"),
        ({"task": "inpaint", "images": (PICTURE,), "answer_image": PICTURE}, "needs a mask"),
        ({"task": "text_to_image", "answer_image": PICTURE, "mask": MASK}, "cannot have a mask"),
        ({"task": "inpaint", "images": (CODES,), "answer_image": CODES, "mask": MASK}, r"a mask is bool \(8, 8\)"),
        ({"task": "inpaint", "images": (PICTURE,), "answer_image": PICTURE, "mask": ~MASK}, "marks nothing"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        Record(prompt="words", **fields)
    assert "\n" not in str(caught.value)
