"""Pictures from and to strangers: bytes and data URLs in, encoded bytes out; masks of every convention.

In: bytes that claim to be a picture. Out: an RGB or RGBA picture without metadata, or an `ApiError` that says what is
wrong. Size is read from the header and checked before anything is decoded; only plain raster formats are opened.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from dimoo.metadata import EXIF_IFD, JPEG_ROOM, USER_COMMENT
from dimoo.serve.errors import ApiError, invalid, too_large
from dimoo.tokenizers.resize import open_picture

READ = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
PNG_LEVEL = 3  # two thirds of the time of 6, which is Pillow's own, for files 4 % larger
OutputFormat = Literal["png", "webp", "jpeg"]
Polarity = Literal["auto", "transparent", "white", "black"]
_DATA_URL = re.compile(r"data:(?P<type>[\w.+/-]*)(?:;[\w-]+=[\w.-]+)*(?P<base64>;base64)?,", re.ASCII)


class PictureReader:
    """Reads the pictures of one request; `pixels` is what all of them together may have."""

    def __init__(self, pixels: int, pictures: int) -> None:
        self.pixels, self.pictures = pixels, pictures
        self._pixels_left, self._pictures_left = pixels, pictures

    def read(self, data: bytes, param: str) -> Image.Image:
        """The picture in `data`: its first frame, turned as its EXIF says, its metadata left behind."""
        self._pictures_left -= 1
        if self._pictures_left < 0:
            raise invalid(f"at most {self.pictures} pictures a request", param, "too_many_images")
        with _readable(param):
            with Image.open(io.BytesIO(data), formats=READ) as opened:
                width, height = opened.size
                self._pixels_left -= width * height
                if self._pixels_left < 0:
                    raise too_large(
                        f"a picture of {width} x {height} pixels is too much: "
                        f"all pictures of a request may have {self.pixels:,} pixels",
                        param,
                    )
                opened.load()
                return _bare(open_picture(opened))


@contextmanager
def _readable(param: str) -> Iterator[None]:
    """Whatever a decoder may raise for a hostile file becomes a 400."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ApiError:
        raise
    except Image.DecompressionBombError as error:
        raise too_large("the picture claims far too many pixels", param) from error
    except UnidentifiedImageError as error:
        raise invalid(f"this is no picture that can be read ({', '.join(READ)} are)", param, "invalid_image") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError, zlib.error and others
        raise invalid("the picture is damaged or cut short", param, "invalid_image") from error


def _bare(picture: Image.Image) -> Image.Image:
    """The same pixels with nothing attached."""
    bare = picture.copy()
    bare.info = {}
    return bare


def is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"


def decode_data_url(url: str, param: str) -> bytes:
    """Bytes of `data:image/...;base64,...`."""
    match = _DATA_URL.match(url[:256])
    if match is None:
        raise invalid("this is no data URL: expected data:image/png;base64,...", param, "invalid_image_url")
    payload = url[match.end() :]
    try:
        if not match["base64"]:
            return unquote_to_bytes(payload)
        return base64.b64decode(payload, validate=False)
    except (binascii.Error, ValueError) as error:
        raise invalid("the data URL is broken", param, "invalid_base64") from error


def normalise_mask(mask: Image.Image, polarity: Polarity = "auto") -> Image.Image:
    """A mask of any convention as ours: mode L, white (255) is drawn anew, black is kept.

    transparent: OpenAI's, alpha 0 is drawn (below one half); white: diffusers'; black: its opposite (kept is white).
    auto: transparent if the mask has transparency that is used, else white.
    """
    transparent = mask.mode == "RGBA" and mask.getchannel("A").getextrema()[0] < 128  # type: ignore[operator]
    if polarity == "transparent" or (polarity == "auto" and transparent):
        if mask.mode != "RGBA":
            raise invalid("the mask has no alpha channel; transparent pixels mark what is to be drawn", "mask")
        return mask.getchannel("A").point(lambda value: 255 if value < 128 else 0)
    light = mask.convert("RGB").convert("L")
    if polarity == "black":
        light = ImageOps.invert(light)
    return light.point(lambda value: 255 if value >= 128 else 0)


def encode_picture(
    picture: Image.Image, format: OutputFormat = "png", *, quality: int = 100, text: dict[str, str] | None = None
) -> bytes:
    """File bytes. `text` goes into PNG text chunks, or all of it into the EXIF comment, unless it is too long for a
    JPEG's; `quality` 0..100 counts for webp and jpeg."""
    out = io.BytesIO()
    options: dict[str, Any] = {"quality": quality}
    if format == "png":
        info = PngImagePlugin.PngInfo()
        for key, value in (text or {}).items():
            info.add_itxt(key, value)
        options = {"pnginfo": info, "compress_level": PNG_LEVEL}
    elif text:
        exif = Image.Exif()
        lines = "\n".join(value if key == "parameters" else f"{key}: {value}" for key, value in text.items())
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + lines.encode("utf-16-be")
        if format != "jpeg" or len(exif.tobytes()) <= JPEG_ROOM:
            options["exif"] = exif
    if format == "webp" and quality == 100:
        options |= {"lossless": True}
    picture.convert("RGB").save(out, format.upper(), **options)
    return out.getvalue()


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def to_data_url(data: bytes, format: OutputFormat = "png") -> str:
    return f"data:image/{format};base64,{to_base64(data)}"
