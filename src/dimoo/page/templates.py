"""System prompts and tags: every fixed string of a prompt, in one table.

A prompt is `<system>S</system><user>words</user>`; without condition the words are `<uncondition>`. The strings are
the authors' (their inference code), the dense-prediction ones as their table intends them.
"""

from __future__ import annotations

UNCONDITION = "<uncondition>"

SYSTEM = {
    "text_to_image": "Generate an image according to the text prompt.",
    "understanding": (
        "You are a multimodal model that can process both text and images. Answer the following question based on "
        "the provided images. Analyze each image and combine relevant details to answer."
    ),
    "edit": "Generate an image applying the following editing instruction based on the original image.",
    "control": "Generate an image according to the text prompt and the given control image.",
    "subject": "Generate an image according to the text prompt and the given object image.",
    "style": "Transform the current image into the style of the provided image.",
    "multi_view": "Generate a view-image based on the given image.",
    "dense": "Perform dense prediction on the given images.",
}

STYLE_WORDS = "Transform the current image into the style of the provided image."
DENSE_WORDS = "Generate a {map} according to the image."
VIEW_WORDS = "Generate the {view} view based on the provided front view."


def opening(system: str) -> str:
    """What comes before the user's words."""
    return f"<system>{SYSTEM[system]}</system><user>"


TURN = "<user>"  # a later turn of a conversation: the system prompt stands once, before the first
CLOSING = "</user>"
