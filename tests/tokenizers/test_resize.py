"""Pictures from files to pixels: buckets, crops that do not change, odd files, damage.

Broken on purpose to see these fail: a random crop; no EXIF turn; alpha dropped rather than laid on white; 16-bit values
cut off at 255; buckets listed (height, width).
"""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import engine_fixtures  # noqa: F401  (its profile for hypothesis)
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dimoo.tokenizers.resize import (
    buckets,
    check_size,
    fit,
    fit_to_bucket,
    nearest_bucket,
    open_picture,
    to_picture,
    to_pixels,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "parity" / "official-a" / "golden.json").read_text())["crop_sizes"]


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def as_file(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("target", [256, 512, 1024])
def test_the_authors_buckets(target: int) -> None:
    assert [[width, height] for height, width in buckets(target)] == GOLDEN[str(target)]


def test_no_bucket() -> None:
    with pytest.raises(ValueError, match="no picture size of about 16 x 16 is a multiple of 32"):
        buckets(16)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_nearest_bucket_loses_least(height: int, width: int) -> None:
    # Broken to try it: the nearest aspect ratio by difference.
    def kept(size: list[int]) -> float:
        across, down = size[0] / width, size[1] / height
        return min(across, down) / max(across, down)

    best = max(kept(size) for size in GOLDEN["256"])
    expected = max(size for size in GOLDEN["256"] if kept(size) == best)
    assert list(nearest_bucket(height, width, buckets(256)))[::-1] == expected


def test_among_equal_buckets_the_wider() -> None:
    # Broken to try it: the first of equals. (No two of the authors' buckets are ever equal.)
    assert nearest_bucket(6, 6, ((4, 2), (2, 4))) == nearest_bucket(6, 6, ((2, 4), (4, 2))) == (2, 4)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_fit_covers_and_crops_the_centre(height: int, width: int, tall: int, wide: int) -> None:
    # Broken to try it: int for round in the covering size, which then falls a pixel short.
    picture = to_picture(noise(height, width))
    fitted = fit(picture, tall, wide)
    assert fitted.size == (wide, tall)
    assert np.array_equal(to_pixels(fitted), to_pixels(fit(picture, tall, wide))), "the crop is the same every time"


def test_fit_keeps_a_picture_of_the_right_size_and_crops_evenly() -> None:
    pixels = noise(20, 30)
    assert np.array_equal(to_pixels(fit(to_picture(pixels), 20, 30)), pixels)
    assert np.array_equal(to_pixels(fit(to_picture(pixels), 20, 20)), pixels[:, 5:25])
    assert np.array_equal(to_pixels(fit(to_picture(pixels), 16, 30)), pixels[2:18])


def test_halving_comes_before_bicubic() -> None:
    pixels = noise(64, 64)
    halves = pixels.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert float(np.abs(to_pixels(fit(to_picture(pixels), 32, 32)).astype(float) - halves).max()) <= 1


def test_a_line_of_pixels_is_not_blown_up() -> None:
    """A 1 x 40,000 picture would be scaled to 256 x 10,240,000 before its crop: 7.9 GB."""
    # This failed: it was.
    line = to_picture(noise(1, 40_000))
    assert fit(line, 256, 1024).size == (1024, 256)
    assert fit(line.transpose(Image.Transpose.ROTATE_90), 1024, 256).size == (256, 1024)


def test_fit_to_bucket() -> None:
    assert fit_to_bucket(to_picture(noise(40, 90)), 256).size == (352, 160)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns(turn: int) -> None:
    # Broken to try it: no exif_transpose.
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    opened = to_pixels(open_picture(as_file(to_picture(pixels), exif=exif)))
    corners = {1: (0, 0), 2: (0, 5), 3: (3, 5), 4: (3, 0), 5: (0, 0), 6: (0, 3), 7: (5, 3), 8: (5, 0)}
    assert opened.shape[:2] == ((4, 6) if turn < 5 else (6, 4))
    assert opened[corners[turn]].min() > 200


def test_transparency_lies_on_white() -> None:
    # Broken to try it: convert("RGB") alone, which shows what lies under the transparency.
    rgba = noise(3, 4, 4)
    rgba[..., 3] = [0, 255, 128, 0]
    seen = to_pixels(open_picture(as_file(Image.fromarray(rgba)))).astype(float)
    alpha = rgba[..., 3:] / 255.0
    assert np.abs(seen - (rgba[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1
    grey = Image.merge("LA", [Image.fromarray(rgba[..., 0]), Image.fromarray(rgba[..., 3])])
    assert (to_pixels(open_picture(as_file(grey)))[:, [0, 3]] == 255).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putdata([0, 1])
    assert to_pixels(open_picture(as_file(palette, transparency=0))).tolist() == [[[255] * 3, [0, 255, 0]]]
    assert to_pixels(open_picture(as_file(palette))).tolist() == [[[255, 0, 0], [0, 255, 0]]]


@pytest.mark.parametrize("top", [65_535, 30_000, 200])
def test_sixteen_bits(top: int) -> None:
    """Values of a 16-bit file are divided by 257, however dark it is."""
    # This failed for top = 200: a nearly black picture was read as if it had 8 bits.
    values = np.linspace(0, top, 12).astype(np.uint16).reshape(3, 4)
    opened = open_picture(as_file(Image.fromarray(values)))
    assert np.array_equal(to_pixels(opened), np.repeat(np.rint(values / 257).astype(np.uint8)[..., None], 3, -1))


def test_32_bits_and_floats() -> None:
    whole = Image.fromarray(np.array([[0, 100], [200, 255]], dtype=np.int32))
    assert to_pixels(open_picture(as_file(whole, "TIFF")))[..., 0].tolist() == [[0, 100], [200, 255]]
    deep = Image.fromarray(np.array([[0, 65_535]], dtype=np.int32))
    assert to_pixels(open_picture(as_file(deep, "TIFF")))[..., 0].tolist() == [[0, 255]]
    shares = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert to_pixels(open_picture(as_file(shares, "TIFF")))[..., 0].tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB", "HSV"])
def test_other_modes(mode: str) -> None:
    picture = to_picture(noise(6, 5)).convert(mode)
    source = picture if mode in ("HSV", "YCbCr") else as_file(picture, "TIFF" if mode == "CMYK" else "PNG")
    opened = open_picture(source)
    assert opened.mode in ("RGB", "RGBA") and to_pixels(opened).shape == (6, 5, 3)
    assert np.array_equal(to_pixels(opened), np.array(picture.convert("RGB")))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = as_file(frames[0], form, save_all=True, append_images=frames[1:])
    red = to_pixels(open_picture(data)).reshape(-1, 3).mean(0)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no picture file at .*absent\.png"):
        open_picture(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="no picture file at"):
        open_picture(tmp_path)
    (tmp_path / "words.png").write_text("hello")
    with pytest.raises(ValueError, match=r"words\.png is not a picture"):
        open_picture(str(tmp_path / "words.png"))
    for empty in (b"", b"GIF89a"):
        with pytest.raises(ValueError, match="the picture is"):
            open_picture(empty)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncated_files_are_named(tmp_path: Path, form: str) -> None:
    # Broken to try it: LOAD_TRUNCATED_IMAGES.
    data = as_file(to_picture(noise(40, 40)), form)
    for share in (0.2, 0.5, 0.9):
        file = tmp_path / f"cut.{form}"
        file.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=rf"cut\.{form}"):
            open_picture(file)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_damage_is_a_value_error() -> None:
    # This failed for AVIF, whose reader raises RuntimeError.
    drawing = np.random.default_rng(1)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "AVIF"):
        data = as_file(to_picture(noise(16, 16)), form)
        for _ in range(25):
            broken = bytearray(data)
            for place in drawing.integers(0, len(data), 6):
                broken[place] ^= 0x5A
            cut = int(drawing.integers(8, len(data)))
            for attempt in (bytes(broken), bytes(broken[:cut])):
                try:
                    open_picture(attempt)
                except ValueError as error:
                    assert "the picture" in str(error)


def test_bombs_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Broken to try it: the check after load().
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)  # other libraries of this process may have set theirs
    bomb = as_file(Image.new("1", (12_000, 12_000)))
    with pytest.raises(ValueError, match="12000 x 12000 pixels; at most 100,000,000 are read"):
        open_picture(bomb)
    with pytest.raises(ValueError, match="too large a picture"):  # beyond what PIL itself opens
        open_picture(head_of_png(60_000, 60_000))
    with pytest.raises(ValueError, match="40 x 30 pixels; at most 1,000 are read"):
        open_picture(as_file(Image.new("L", (40, 30))), max_pixels=1000)


def head_of_png(height: int, width: int) -> bytes:
    """The head of a PNG that says how large it is, and an empty picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"")


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [(16, 24, "width 24 is not a multiple of 16; nearest are 16 and 32"), (0, 16, "height 0"), (-16, 16, "height -16")],
)
def test_sizes_that_do_not_fit(height: int, width: int, message: str) -> None:
    check_size(32, 16, 16)
    with pytest.raises(ValueError, match=message):
        check_size(height, width, 16)
