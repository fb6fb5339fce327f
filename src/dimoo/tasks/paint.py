"""Painting within a picture: inpainting and retouching with a painted mask, outpainting onto a larger canvas.

Cells that the mask touches are drawn anew, all other codes stay as they are; outside the mask the exact pixels of the
input are pasted back, with a soft seam, unless told not to. Retouching is inpainting again on the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dimoo.page.page import Page
from dimoo.page.painting import centred_rectangle, dilate, fill_smoothly, mask_cells, rectangle, soften
from dimoo.sampling.guidance import Guided
from dimoo.sampling.settings import ImageSettings
from dimoo.tasks.base import Answer, Picture, PictureOptions, Tools, check_prompt
from dimoo.tasks.text_to_image import pages, text_scale
from dimoo.tokenizers.resize import open_picture, to_pixels


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """Draw the masked part of a picture anew, as the prompt says.

    The mask is one of: a picture of the same size (white, or any value above half, is drawn; of an RGBA mask the
    transparent part), a rectangle (top, left, height, width) in pixels, or `ratios` (height, width) of a centred one.
    """

    picture: Picture
    prompt: str
    mask: Picture | None = None
    box: tuple[int, int, int, int] | None = None
    ratios: tuple[float, float] | None = None
    dilation: int = 0
    softness: int = 2
    paste: bool = True
    seed: int = 0
    options: PictureOptions = field(default_factory=PictureOptions)

    def guided(self, tools: Tools) -> Guided:
        check_prompt(self.prompt)
        pixels, mask = self.canvas(tools)
        return paint(tools, self.prompt, pixels, mask, self.options)

    def settings(self, tools: Tools) -> ImageSettings:
        return self.options.settings(tools.defaults)

    def read(self, tools: Tools, page: Page) -> Answer:
        pixels, mask = self.canvas(tools)
        return paste_back(tools, page, pixels, mask, softness=self.softness if self.paste else None)

    def canvas(self, tools: Tools) -> tuple[Tensor, Tensor]:
        """Pixels (H, W, 3) cropped to whole cells, and the mask (H, W)."""
        given = [name for name in ("mask", "box", "ratios") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of mask, box, ratios; got {', '.join(given) or 'none'}")
        picture = open_picture(self.picture)
        height, width = picture.height, picture.width
        if self.mask is not None:
            mask = read_mask(self.mask)
            if mask.shape != (height, width):
                raise ValueError(
                    f"the mask is {mask.shape[0]} x {mask.shape[1]} pixels (height x width), "
                    f"the picture {height} x {width}: they must agree"
                )
        elif self.box is not None:
            mask = rectangle(height, width, self.box)
        else:
            assert self.ratios is not None, "one of the three is given"
            mask = centred_rectangle(height, width, *self.ratios)
        tall, wide = whole_cells(tools, height, width)
        mask = dilate(mask, self.dilation)[:tall, :wide]
        if not bool(mask.any()):
            raise ValueError("the mask is empty: nothing is to be drawn")
        return torch.from_numpy(to_pixels(picture))[:tall, :wide], mask


@dataclass(frozen=True, kw_only=True)
class Outpaint:
    """Grow the canvas by (top, bottom, left, right) pixels, rounded up to whole cells, and draw the new border."""

    picture: Picture
    prompt: str
    expand: tuple[int, int, int, int]
    softness: int = 2
    paste: bool = True
    seed: int = 0
    options: PictureOptions = field(default_factory=PictureOptions)

    def guided(self, tools: Tools) -> Guided:
        check_prompt(self.prompt)
        pixels, mask = self.canvas(tools)
        return paint(tools, self.prompt, pixels, mask, self.options)

    def settings(self, tools: Tools) -> ImageSettings:
        return self.options.settings(tools.defaults)

    def read(self, tools: Tools, page: Page) -> Answer:
        pixels, mask = self.canvas(tools)
        return paste_back(tools, page, pixels, mask, softness=self.softness if self.paste else None)

    def canvas(self, tools: Tools) -> tuple[Tensor, Tensor]:
        if min(self.expand) < 0 or not any(self.expand):
            raise ValueError(f"expand {self.expand} (top, bottom, left, right) must be 0 or more, and not all 0")
        factor = tools.image.factor
        top, bottom, left, right = (-(-side // factor) * factor for side in self.expand)
        picture = open_picture(self.picture)
        tall, wide = whole_cells(tools, picture.height, picture.width)
        pixels = torch.zeros(top + tall + bottom, left + wide + right, 3, dtype=torch.uint8)
        pixels[top : top + tall, left : left + wide] = torch.from_numpy(to_pixels(picture))[:tall, :wide]
        mask = torch.ones(pixels.shape[:2], dtype=torch.bool)
        mask[top : top + tall, left : left + wide] = False
        return pixels, mask


def read_mask(picture: Picture) -> Tensor:
    """A painted mask as (H, W, bool): light is drawn; of a mask with transparency, the transparent part."""
    picture = open_picture(picture)
    if picture.mode == "RGBA":
        alpha = np.asarray(picture.getchannel("A"))
        if alpha.min() < 128:
            return torch.from_numpy(alpha < 128)
    return torch.from_numpy(np.asarray(picture.convert("L")) >= 128)


def whole_cells(tools: Tools, height: int, width: int) -> tuple[int, int]:
    """The largest size of whole cells within a picture. ValueError if it is smaller than one cell."""
    factor = tools.image.factor
    if height < factor or width < factor:
        raise ValueError(f"a picture of {height} x {width} pixels is smaller than one cell of {factor} x {factor}")
    return height // factor * factor, width // factor * factor


def paint(tools: Tools, prompt: str, pixels: Tensor, mask: Tensor, options: PictureOptions) -> Guided:
    """Pages whose touched cells are masked and whose other cells hold the codes of what is known."""
    known = fill_smoothly(pixels.float(), mask).round().to(torch.uint8)
    cells = mask_cells(mask, tools.image.factor, cover=0.0)
    codes = torch.where(cells, -1, tools.image.encode(known.numpy()))
    page, unconditional = pages(tools, prompt, codes, cells)
    return Guided(page, ((unconditional, text_scale(tools, options)),))


def paste_back(tools: Tools, page: Page, pixels: Tensor, mask: Tensor, *, softness: int | None) -> Answer:
    """The decoded picture, with the input's own pixels outside the mask (softness None: as decoded)."""
    codes = page.output_codes()
    drawn = torch.from_numpy(tools.image.decode(codes))
    if softness is not None:
        weight = soften(mask, softness)[..., None]
        blended = (drawn.float() * weight + pixels.float() * (1 - weight)).round().to(torch.uint8)
        drawn = torch.where(weight > 0, blended, pixels)
    return Answer(picture=Image.fromarray(drawn.numpy()), codes=codes)
