"""Pixels to a grid of codes and back, by diffusers' `VQModel`.

In: uint8 pixels (H, W, 3), sides multiples of `factor`. Out: codes (R, C) int64, and back to uint8 pixels.
A model whose input has 3 p² channels reads pictures in patches of p x p pixels (space to depth): p follows from its
configuration. The model runs in inference mode, in float32 unless told otherwise.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo.tokenizers.resize import Pixels, check_size


def vq_model() -> Any:
    """diffusers' `VQModel`, imported without the warnings about packages that it finds and we don't use there."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from diffusers import VQModel

    return VQModel


class ImageTokenizer:
    """A VQ model with the three facts that its users need: `factor`, `codes`, and the latents' width."""

    def __init__(self, vq: Any, *, tile: int | None = None) -> None:
        config = vq.config
        self.vq = vq.eval().requires_grad_(False)
        self.patch = isqrt(config.in_channels // 3)
        if 3 * self.patch**2 != config.in_channels:
            raise ValueError(f"the VQ model's in_channels {config.in_channels} is not 3 times a square")
        self.factor = self.patch * 2 ** (len(config.block_out_channels) - 1)
        self.codes: int = config.num_vq_embeddings
        self.latent: int = config.vq_embed_dim or config.latent_channels
        if tile is not None:
            check_size(tile, tile, 2 * self.factor)
        self.tile = tile

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        tile: int | None = None,
    ) -> ImageTokenizer:
        """The VQ model in a checkpoint's `vqvae` folder. ValueError if it is missing or unreadable.

        `tile`: work in overlapping tiles of this many pixels, for pictures that would not fit; approximate near the
        seams, because the model's group norms then see a tile instead of the picture.
        """
        if not (folder / "vqvae" / "config.json").is_file():
            raise ValueError(f"{folder} has no VQ model: no file vqvae/config.json")
        return cls.load_vq(folder / "vqvae", device=device, dtype=dtype, tile=tile)

    @classmethod
    def load_vq(
        cls,
        where: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        tile: int | None = None,
    ) -> ImageTokenizer:
        """The same of a folder that is a VQ model itself."""
        try:
            vq, report = vq_model().from_pretrained(
                str(where), torch_dtype=dtype, low_cpu_mem_usage=False, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{where} holds no readable VQ model: {reason}") from error
        if missing := sorted(report["missing_keys"]):  # diffusers would leave them random
            raise ValueError(f"{where}: the tensor {missing[0]} is missing ({len(missing)} in all)")
        for name, value in vq.state_dict().items():
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{where}: {name} holds values that are not finite (NaN or infinity)")
        return cls(vq.to(device, memory_format=torch.channels_last), tile=tile)

    @property
    def device(self) -> torch.device:
        return self.vq.quantize.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vq.quantize.embedding.weight.dtype

    @torch.inference_mode()
    def encode(self, pixels: Pixels) -> Tensor:
        """Codes (R, C) of pixels (H, W, 3). ValueError if a side is no multiple of `factor`."""
        check_size(pixels.shape[0], pixels.shape[1], self.factor)
        x_1CHW = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].to(self.device)
        x_1CHW = (x_1CHW.to(torch.float32) / 255.0).to(self.dtype)
        if self.tile is None or max(x_1CHW.shape[2:]) <= self.tile:
            return self._encode(x_1CHW)[0].cpu()
        return self._encode_tiles(x_1CHW).cpu()

    @torch.inference_mode()
    def encode_batch(self, pixels_BHWC: Pixels) -> Tensor:
        """Codes (B, R, C) of pictures of one size, in one pass: for pre-tokenising many."""
        check_size(pixels_BHWC.shape[1], pixels_BHWC.shape[2], self.factor)
        x_BCHW = torch.from_numpy(np.ascontiguousarray(pixels_BHWC)).permute(0, 3, 1, 2).to(self.device)
        return self._encode((x_BCHW.to(torch.float32) / 255.0).to(self.dtype)).cpu()

    @torch.inference_mode()
    def decode(self, codes_RC: Tensor) -> Pixels:
        """Pixels (H, W, 3) of codes (R, C)."""
        if codes_RC.numel() == 0 or int(codes_RC.min()) < 0 or int(codes_RC.max()) >= self.codes:
            raise ValueError(f"codes to decode must lie in 0..{self.codes - 1}, none masked")
        codes_RC = codes_RC.to(self.device)
        if self.tile is None or max(codes_RC.shape) * self.factor <= self.tile:
            x_CHW = self._decode(codes_RC[None])[0]
        else:
            x_CHW = self._decode_tiles(codes_RC)
        return x_CHW.clip(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    def _encode(self, x_BCHW: Tensor) -> Tensor:
        latents = self.vq.encode(F.pixel_unshuffle(x_BCHW, self.patch)).latents
        pages, _, rows, columns = latents.shape
        codes: Tensor = self.vq.quantize(latents)[2][2]
        return codes.reshape(pages, rows, columns)

    def _decode(self, codes_BRC: Tensor) -> Tensor:
        shape = (*codes_BRC.shape, self.latent)
        decoded: Tensor = self.vq.decode(codes_BRC, force_not_quantize=True, shape=shape).sample
        return F.pixel_shuffle(decoded, self.patch).float()

    def _tiles(self, size: int) -> Iterator[tuple[int, int]]:
        """Starts and stops, in cells, of overlapping tiles that cover `size` cells; half a tile of overlap."""
        assert self.tile is not None, "only called when tiling"
        tile = self.tile // self.factor
        last = max(0, size - tile)
        for start in range(0, last + tile // 2, max(1, tile // 2)):
            begin = min(start, last)
            yield begin, min(size, begin + tile)
            if begin == last:
                return

    def _encode_tiles(self, x_1CHW: Tensor) -> Tensor:
        """Each cell's code comes from the tile whose centre is nearest."""
        rows, columns = (side // self.factor for side in x_1CHW.shape[2:])
        codes = torch.zeros(rows, columns, dtype=torch.int64, device=x_1CHW.device)
        nearest = torch.full((rows, columns), torch.inf, device=x_1CHW.device)
        f = self.factor
        for top, bottom in self._tiles(rows):
            for left, right in self._tiles(columns):
                part = self._encode(x_1CHW[:, :, top * f : bottom * f, left * f : right * f])[0]
                down = (torch.arange(top, bottom, device=codes.device) - (top + bottom - 1) / 2).abs()
                across = (torch.arange(left, right, device=codes.device) - (left + right - 1) / 2).abs()
                distance = torch.maximum(down[:, None], across[None, :])
                here = (slice(top, bottom), slice(left, right))
                better = distance < nearest[here]
                codes[here] = torch.where(better, part, codes[here])
                nearest[here] = torch.where(better, distance, nearest[here])
        return codes

    def _decode_tiles(self, codes_RC: Tensor) -> Tensor:
        """Tiles blended by weights that fall linearly towards their edges."""
        rows, columns = codes_RC.shape
        f = self.factor
        total = torch.zeros(3, rows * f, columns * f, device=codes_RC.device)
        weight = torch.zeros(rows * f, columns * f, device=codes_RC.device)
        for top, bottom in self._tiles(rows):
            for left, right in self._tiles(columns):
                part = self._decode(codes_RC[None, top:bottom, left:right])[0]
                ramp = _ramp((bottom - top) * f)[:, None] * _ramp((right - left) * f)[None, :]
                ramp = ramp.to(codes_RC.device)
                here = (slice(top * f, bottom * f), slice(left * f, right * f))
                total[(slice(None), *here)] += part * ramp
                weight[here] += ramp
        return total / weight


def _ramp(length: int) -> Tensor:
    """1 at the centre, falling to a small positive value at both ends."""
    return 1.0 - (torch.arange(length) - (length - 1) / 2).abs() / (length / 2 + 1)
