"""Pictures from files to pixels of a size that the model reads: buckets, deterministic crops, odd files.

In: a path, bytes or a PIL image. Out: uint8 pixels (H, W, 3). This is the only file that knows that PIL says
(width, height); everything else in the package says (height, width).
"""

from __future__ import annotations

import io
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]
MAX_PIXELS = 100_000_000  # larger files are refused before they are decoded


def open_picture(source: str | Path | bytes | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An RGB or RGBA picture, turned as its EXIF says; the first frame of an animation.

    16-bit, palette, grey, CMYK and bilevel files are converted. ValueError, naming the file, if it is missing, not a
    picture, cut short, or larger than `max_pixels`.
    """
    if isinstance(source, Image.Image):
        return _plain(source)
    name = "the picture" if isinstance(source, bytes) else str(source)
    if isinstance(source, (str, Path)) and not Path(source).is_file():
        raise ValueError(f"no picture file at {name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                width, height = opened.size
                if width * height > max_pixels:
                    raise ValueError(f"{name} is {width} x {height} pixels; at most {max_pixels:,} are read")
                opened.load()
                return _plain(opened)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large a picture: {error}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a picture that can be read") from error
    except (OSError, SyntaxError, RuntimeError) as error:  # the last comes from PIL's AVIF reader
        raise ValueError(f"{name} is damaged or cut short: {error}") from error


def _plain(picture: Image.Image) -> Image.Image:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(picture) / 257.0).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        return Image.fromarray(_eight_bit(np.asarray(picture))).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert("RGB")


def _eight_bit(values: NDArray) -> Pixels:
    """Grey values of a 32-bit or float file, whose range the file does not say, to 8 bits."""
    wide = values.astype(np.float64)
    if np.issubdtype(values.dtype, np.floating):
        wide *= 255.0 if wide.max(initial=0.0) <= 1.0 else 1.0
    elif wide.max(initial=0.0) > 255:
        wide /= 257.0
    return np.clip(np.rint(wide), 0, 255).astype(np.uint8)


def to_pixels(picture: Image.Image) -> Pixels:
    """Pixels (H, W, 3); transparency lies on white."""
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def to_picture(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


@cache
def buckets(target: int, patch: int = 32, max_aspect: float = 4.0) -> tuple[tuple[int, int], ...]:
    """Sizes (height, width) of about target x target pixels: multiples of `patch`, aspect at most `max_aspect`.

    For every width of w patches the heights from n // (w + 1) to n // w, with n = (target // patch)², from the widest
    down (the authors' crop sizes for patch 32).
    """
    budget = (target // patch) ** 2
    sizes = []
    for wide in range(budget, 0, -1):
        shortest = max(1, budget // (wide + 1))
        for high in range(shortest, budget // wide + 1):
            if max(wide, high) / min(wide, high) <= max_aspect:
                sizes.append((high * patch, wide * patch))
    if not sizes:
        raise ValueError(f"no picture size of about {target} x {target} is a multiple of {patch}")
    return tuple(sizes)


def nearest_bucket(height: int, width: int, sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The size that loses least in a crop; among equals the larger (width, height)."""

    def kept(size: tuple[int, int]) -> tuple[float, int, int]:
        tall, wide = size[0] / height, size[1] / width
        return min(tall, wide) / max(tall, wide), size[1], size[0]

    return max(sizes, key=kept)


def fit(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Scale to cover height x width, then crop the centre: halving by box while twice too large, then bicubic.

    Of a picture far longer than wide (or the reverse) only the middle is scaled: a line of pixels would otherwise be
    blown up to gigabytes, to be cropped away.
    """
    across, down = min(picture.width, 16 * max(1, picture.height)), min(picture.height, 16 * max(1, picture.width))
    if (across, down) != picture.size and max(height, width) <= 8 * min(height, width):
        left, top = (picture.width - across) // 2, (picture.height - down) // 2
        picture = picture.crop((left, top, left + across, top + down))
    while picture.width >= 2 * width and picture.height >= 2 * height:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = max(width / picture.width, height / picture.height)
    covering = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    if picture.size != covering:
        picture = picture.resize(covering, Image.Resampling.BICUBIC)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def fit_to_bucket(picture: Image.Image, target: int, patch: int = 32) -> Image.Image:
    """The picture at the bucket nearest to its shape."""
    return fit(picture, *nearest_bucket(picture.height, picture.width, buckets(target, patch)))


def check_size(height: int, width: int, factor: int) -> None:
    """ValueError unless both sides are positive multiples of the VQ model's factor."""
    for name, value in (("height", height), ("width", width)):
        if value <= 0 or value % factor:
            low = max(factor, value // factor * factor)
            raise ValueError(f"{name} {value} is not a multiple of {factor}; nearest are {low} and {low + factor}")
