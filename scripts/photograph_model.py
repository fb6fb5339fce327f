"""Pictures for the README, made by the very commands that stand beside them.

    python scripts/photograph_model.py                  # the shipped model; writes docs/images/model-*.webp
    python scripts/photograph_model.py --output FOLDER

Runs each command line of `COMMANDS` in an empty folder, and lays the pictures out in strips. Look at them before they
are committed; tests/test_readme.py holds the README to these commands.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

COMMANDS = (
    'dimoo t2i "a big noto pig in the centre, on a teal background" -o pig.png --save-steps',
    'dimoo t2i "a noto sunflower" --seed 3 -o sunflower.png',
    'dimoo t2i "two yellow hearts" --seed 1 -o hearts.png',
    'dimoo t2i "a flat red apple on the left and a flat blue book on the right, on a white background" -o apple.png',
    'dimoo edit apple.png "make the background yellow" --type edit_background -o yellow.png',
    'dimoo edit apple.png "add an umbrella at the top" --type edit_add -o umbrella.png',
    'dimoo edit apple.png "redraw this in 3d style" --type edit_text_transfer -o styled.png',
    'dimoo inpaint apple.png "a flat red apple on the left and a flat red heart on the right, on a white background"'
    " --box 40 80 48 48 -o heart.png",
    'dimoo t2i "a flat red heart" --transparent -o cut.png',
)
STRIPS = {
    "model-pictures.webp": ("pig.png", "sunflower.png", "hearts.png", "apple.png"),
    "model-edits.webp": ("apple.png", "yellow.png", "umbrella.png", "styled.png", "heart.png"),
}
FILM = ("pig.steps.webp", "model-steps.webp")
GAP = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for command in COMMANDS:
            print(command)
            words = shlex.split(command)
            subprocess.run([Path(sys.executable).with_name("dimoo"), *words[1:]], cwd=folder, check=True)
        for name, files in STRIPS.items():
            strip([folder / file for file in files], options.output / name)
        shutil.copyfile(folder / FILM[0], options.output / FILM[1])
    return 0


def strip(files: list[Path], target: Path) -> None:
    """Pictures side by side on white, twice as large."""
    pictures = [Image.open(file).convert("RGB") for file in files]
    pictures = [
        picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.LANCZOS) for picture in pictures
    ]
    width = sum(picture.width + GAP for picture in pictures) - GAP
    sheet = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    sheet.save(target, format="WEBP", quality=88, method=6)


if __name__ == "__main__":
    sys.exit(main())
