"""The pages of every task, drawn as text and kept in golden_pages.txt, so that a moved tag is seen in review.

After a change that is meant: `python tests/tasks/test_golden_pages.py`. Broken to try it: images before the words; a
newline left out after the last row; the picture of a finished turn without its tags.
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE = Path(__file__).parent / "golden_pages.txt"
sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it, for a run by hand

from engine_fixtures import photo, stub_tools  # noqa: E402

from dimoo.tasks.base import PictureOptions, Task, TextOptions  # noqa: E402
from dimoo.tasks.edit import Edit  # noqa: E402
from dimoo.tasks.paint import Inpaint, Outpaint  # noqa: E402
from dimoo.tasks.text_to_image import TextToImage  # noqa: E402
from dimoo.tasks.understand import Message, Understand  # noqa: E402

SQUARE, WIDE = photo(32, 32, 1), photo(32, 64, 2)
SHORT = TextOptions(answer_length=4)
REQUESTS: dict[str, Task] = {
    "text to image": TextToImage(prompt="a red fox", height=32, width=48),
    "text to image, no guidance": TextToImage(
        prompt="a red fox", height=16, width=32, options=PictureOptions(cfg_scale=0.0)
    ),
    "edit": Edit(picture=SQUARE, prompt="add a hat", type="edit_add"),
    "style transfer, two pictures": Edit(picture=SQUARE, type="image_ref_transfer", reference=WIDE),
    "depth map at another size": Edit(picture=WIDE, type="depth_pred", height=16, width=32),
    "inpainting": Inpaint(picture=WIDE, prompt="a red fox", box=(0, 16, 20, 16)),
    "outpainting": Outpaint(picture=SQUARE, prompt="a red fox", expand=(0, 16, 10, 0)),
    "question about a picture": Understand(question="What is this?", pictures=(SQUARE,), options=SHORT),
    "question about two pictures": Understand(question="Which is wider?", pictures=(SQUARE, WIDE), options=SHORT),
    "pictures where the text says": Understand(
        question="Is <image> wider than <image> or not?", pictures=(SQUARE, WIDE), interleaved=True, options=SHORT
    ),
    "text without a picture": Understand(question="What is a fox?", options=SHORT),
    "conversation with a picture in it": Understand(
        question="Is it red?",
        history=(
            Message(words="What is this?", pictures=(SQUARE,), answer="A fox."),
            Message(words="Draw it.", answer=WIDE),
        ),
        options=SHORT,
    ),
}


def render() -> str:
    tools = stub_tools(edit_area=32, understand_area=32)
    parts = []
    for name, request in REQUESTS.items():
        guided = request.guided(tools)
        parts.append(f"== {name}\n{guided.page.show(colour=False)}")
        parts += [f"-- against, weight {scale}\n{page.show(colour=False)}" for page, scale in guided.contrasts]
    return "\n".join(parts) + "\n"


def test_pages_are_the_golden_ones() -> None:
    golden, now = FILE.read_text(), render()
    for old, new in zip(golden.split("== "), now.split("== "), strict=True):
        assert new == old


if __name__ == "__main__":
    FILE.write_text(render())
