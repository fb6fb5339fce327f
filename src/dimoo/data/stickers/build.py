"""Renders the core catalogue from openly licensed emoji art, or with `--wide` everything like it in the four art sets.

In: npm packages (fetched on first use, versions pinned, scripts off). Out: a folder with one lossless WebP atlas a
style and `catalogue.json`. Run as `python -m dimoo.data.stickers.build`; with `--ship` it also renews the drawings
shipped with the package.

1. Find each concept by code point, FE0F left out, in the four art sets; SVG is rendered large, WebP read as it is.
2. Trim: "flat" and "3d" are two renderings of the same shapes, so both are cut by the union of their boxes and stay
   aligned; "noto" and "twemoji" are each cut by their own.
3. Scale the longer side to fill a 96 px square less its margin, centred.
4. Measure dominant colour and the backgrounds the drawing is lost on; add Chinese names and tags from emojibase.
"""

import argparse
import functools
import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from dimoo.data.stickers.catalogue import ATLAS_COLUMNS, CORE, DRAWING_SIZE, SHIPPED, STYLES, Concept
from dimoo.data.stickers.measure import dominant_colour, hiding_backgrounds

PACKAGES = (
    "@iconify-json/noto@1.2.9",
    "@iconify-json/twemoji@1.2.5",
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "@lobehub/fluent-emoji-3d@1.1.0",
    "emojibase-data@17.0.0",
)
MARGIN = 4
_RENDER_SIZE = 256
_SVG_SETS = {"flat": "fluent-emoji-flat", "noto": "noto", "twemoji": "twemoji"}
_WEBP_SET = Path("@lobehub") / "fluent-emoji-3d" / "assets"
_ALIGNED = ("flat", "3d")
WIDE_GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")  # of emojibase
_PLAIN_NAME = re.compile("[a-z]+( [a-z]+){0,2}")


def default_cache() -> Path:
    """Where downloaded art and built catalogues live: $DIMOO_CACHE, else ~/.cache/dimoo."""
    return Path(os.environ.get("DIMOO_CACHE", Path.home() / ".cache" / "dimoo"))


def build(cache_dir: Path, *, wide: bool = False) -> Path:
    """Fetch the art if it is missing, render the core catalogue or the wide one, and return the folder it was written
    to."""
    modules = fetch_art(cache_dir / "art")
    concepts = CORE | _others(modules) if wide else CORE
    drawings = {name: _fit(_render(concept, modules)) for name, concept in tqdm(concepts.items(), unit="concept")}
    folder = wide_folder(cache_dir) if wide else cache_dir / "stickers" / f"core-{len(CORE)}"
    write(folder, drawings, _facts(concepts, drawings, modules))
    return folder


def wide_folder(cache_dir: Path | None = None) -> Path:
    """Where the wide catalogue is built."""
    return (cache_dir or default_cache()) / "stickers" / "wide"


def fetch_art(folder: Path) -> Path:
    """The folder of the npm packages, installed there first if one is missing."""
    modules = folder / "node_modules"
    if not all((modules / package.rsplit("@", 1)[0]).is_dir() for package in PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--ignore-scripts", "--prefix", str(folder), *PACKAGES], check=True)
    return modules


def write(folder: Path, drawings: dict[str, dict[str, np.ndarray]], facts: dict[str, Any]) -> None:
    """Write one atlas a style and the index, in the order of `drawings`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = -(-len(drawings) // ATLAS_COLUMNS)
    for style in STYLES:
        atlas = np.zeros((rows * DRAWING_SIZE, ATLAS_COLUMNS * DRAWING_SIZE, 4), np.uint8)
        for place, by_style in enumerate(drawings.values()):
            top, left = (DRAWING_SIZE * part for part in divmod(place, ATLAS_COLUMNS))
            atlas[top : top + DRAWING_SIZE, left : left + DRAWING_SIZE] = by_style[style]
        Image.fromarray(atlas).save(folder / f"{style}.webp", lossless=True, quality=100, method=6)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in facts.items())
    (folder / "catalogue.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def _others(modules: Path) -> dict[str, Concept]:
    """What is not in the core and all four sets draw, of `WIDE_GROUPS`, by name."""
    data = modules / "emojibase-data"
    groups = _read(data / "meta" / "groups.json")["groups"]
    drawn = {_without_selector(path.stem) for path in (modules / _WEBP_SET).glob("*.webp")}
    for art_set in _SVG_SETS.values():
        drawn &= {_without_selector(key) for key in _read(modules / "@iconify-json" / art_set / "chars.json")}
    codes = {
        entry["label"].lower(): _without_selector(entry["hexcode"])
        for entry in _read(data / "en" / "data.json")
        if groups.get(str(entry.get("group"))) in WIDE_GROUPS
    }
    return beyond_core({name: code for name, code in codes.items() if code in drawn})


def beyond_core(codes: dict[str, str]) -> dict[str, Concept]:
    """Of names and code points those that are no concept of the core by either, with names of one to three plain
    words."""
    taken = {concept.code for concept in CORE.values()}
    nouns = {concept.noun for concept in CORE.values()} | CORE.keys()
    return {
        name: Concept(noun=name, code=code)
        for name, code in codes.items()
        if code not in taken and name not in nouns and _PLAIN_NAME.fullmatch(name)
    }


def _render(concept: Concept, modules: Path) -> dict[str, Image.Image]:
    return {
        style: _svg(_SVG_SETS[style], concept.code, modules) if style in _SVG_SETS else _webp(concept.code, modules)
        for style in STYLES
    }


def _svg(art_set: str, code: str, modules: Path) -> Image.Image:
    import resvg_py  # needed only here, and not by the installed package

    folder = modules / "@iconify-json" / art_set
    art, names = _read(folder / "icons.json"), _read(folder / "chars.json")
    name = next(name for key, name in names.items() if _without_selector(key) == code)
    box = f"0 0 {art['width']} {art['height']}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">'
        f"{art['icons'][name]['body']}</svg>"
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=_RENDER_SIZE, height=_RENDER_SIZE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def _webp(code: str, modules: Path) -> Image.Image:
    path = next(path for path in (modules / _WEBP_SET).glob(f"{code}*.webp") if _without_selector(path.stem) == code)
    return Image.open(path).convert("RGBA").resize((_RENDER_SIZE, _RENDER_SIZE), Image.Resampling.LANCZOS)


@functools.cache
def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _without_selector(codes: str) -> str:
    return "-".join(part for part in codes.lower().split("-") if part != "fe0f")


def _fit(images: dict[str, Image.Image]) -> dict[str, np.ndarray]:
    boxes = {style: _ink_box(image) for style, image in images.items()}
    shared = np.array([boxes[style] for style in _ALIGNED])
    union = (*shared[:, :2].min(0).tolist(), *shared[:, 2:].max(0).tolist())
    return {style: _place(image, union if style in _ALIGNED else boxes[style]) for style, image in images.items()}


def _ink_box(image: Image.Image) -> tuple[int, ...]:
    box = image.getchannel("A").point(lambda alpha: 255 if alpha > 24 else 0).getbbox()
    assert box is not None, "an art set holds an empty drawing"
    return box


def _place(image: Image.Image, box: tuple[int, ...]) -> np.ndarray:
    left, top, right, bottom = box
    scale = (DRAWING_SIZE - 2 * MARGIN) / max(right - left, bottom - top)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    small = image.crop((left, top, right, bottom)).resize(size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (DRAWING_SIZE, DRAWING_SIZE))
    canvas.paste(small, ((DRAWING_SIZE - size[0]) // 2, (DRAWING_SIZE - size[1]) // 2))
    return np.asarray(canvas)


def _facts(concepts: dict[str, Concept], drawings: dict[str, dict[str, np.ndarray]], modules: Path) -> dict[str, Any]:
    folder = modules / "emojibase-data"
    groups = _read(folder / "meta" / "groups.json")["subgroups"]
    english, chinese = (
        {_without_selector(entry["hexcode"]): entry for entry in _read(path)}
        for path in (folder / "en" / "data.json", folder / "zh" / "data.json")
    )
    return {
        name: {
            "chinese": chinese[concepts[name].code]["label"],
            "group": groups[str(english[concepts[name].code]["subgroup"])],
            "tags": english[concepts[name].code].get("tags", []),
            "colours": {style: dominant_colour(drawing) for style, drawing in by_style.items()},
            "hidden_on": {style: hiding_backgrounds(drawing) for style, drawing in by_style.items()},
        }
        for name, by_style in drawings.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the core sticker catalogue, or the wide one.")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for downloads and results")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ship", action="store_true", help="also renew the drawings shipped with the package")
    which.add_argument(
        "--wide", action="store_true", help="everything like the core in the four art sets, for training"
    )
    arguments = parser.parse_args()
    folder = build(arguments.cache, wide=arguments.wide)
    print(folder)
    if arguments.ship:
        SHIPPED.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            (SHIPPED / path.name).write_bytes(path.read_bytes())
        print(SHIPPED)


if __name__ == "__main__":
    main()
