"""The VQ tokenizer as a network: built, saved, and applied to pictures. `dimoo.train.vq` trains it.

In: uint8 pictures (B, H, W, 3). Out: codes (B, R, C), and pictures from codes, both by diffusers' own path.

Shape legend: B pictures, H W pixels, R C rows and columns of codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import VQModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

Pictures = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class VqShape:
    """The network. Downsampling is `patch * 2 ** (len(channels) - 1)`."""

    patch: int = 8
    channels: tuple[int, ...] = (128, 192)
    layers: int = 1
    latent: int = 64
    code_size: int = 16
    codes: int = 4096
    groups: int = 16
    attention: bool = False


def build_vq(shape: VqShape) -> VQModel:
    """A `VQModel` on patches.

    Residual branches start at zero and the output at a light grey [Goyal 2017, section 5.1], which saves hundreds of
    steps; the codebook starts as random unit vectors.
    """
    depth = len(shape.channels)
    vq = VQModel(
        in_channels=3 * shape.patch**2,
        out_channels=3 * shape.patch**2,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=shape.channels,
        layers_per_block=shape.layers,
        latent_channels=shape.latent,
        vq_embed_dim=shape.code_size,
        num_vq_embeddings=shape.codes,
        norm_num_groups=shape.groups,
        mid_block_add_attention=shape.attention,
        lookup_from_codebook=True,
    )
    with torch.no_grad():
        for block in vq.modules():
            if isinstance(block, ResnetBlock2D):
                block.conv2.weight.zero_()
                block.conv2.bias.zero_()
        vq.decoder.conv_out.weight.mul_(0.1)
        vq.decoder.conv_out.bias.fill_(0.65)
        weight = vq.quantize.embedding.weight.requires_grad_(False)
        weight.copy_(F.normalize(torch.randn_like(weight), dim=-1))
    return vq


def patch_of(vq: VQModel) -> int:
    """Side of the squares of pixels that the network takes as channels."""
    return math.isqrt(int(vq.config["in_channels"]) // 3)


def to_patches(pictures: Pictures, *, patch: int) -> Tensor:
    """uint8 (B, H, W, 3) to float [0, 1] (B, 3 patch^2, H / patch, W / patch), channels last."""
    pixels_B3HW = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div(255)
    return F.pixel_unshuffle(pixels_B3HW, patch).contiguous(memory_format=torch.channels_last)


def to_pictures(patches: Tensor, *, patch: int) -> Pictures:
    """The way back, rounded and clipped."""
    pixels_B3HW = F.pixel_shuffle(patches.float(), patch).clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(pixels_B3HW.permute(0, 2, 3, 1).numpy())


def encode_codes(vq: VQModel, pictures: Pictures) -> Tensor:
    """Codes (B, rows, columns) of uint8 pictures, by diffusers' own path."""
    with torch.no_grad():
        latents = vq.encode(to_patches(pictures, patch=patch_of(vq))).latents
        codes: Tensor = vq.quantize(latents)[2][2]
    return codes.view(latents.shape[0], latents.shape[2], latents.shape[3])


def decode_codes(vq: VQModel, codes_BRC: Tensor) -> Pictures:
    """uint8 pictures of codes, by diffusers' own path."""
    shape = (*codes_BRC.shape, vq.quantize.vq_embed_dim)
    with torch.no_grad():
        patches = vq.decode(codes_BRC.reshape(-1), force_not_quantize=True, shape=shape).sample
    return to_pictures(patches, patch=patch_of(vq))


def round_trip(vq: VQModel, pictures: Pictures, *, batch: int = 64) -> Pictures:
    """Pictures as the codes keep them."""
    parts = [decode_codes(vq, encode_codes(vq, pictures[i : i + batch])) for i in range(0, len(pictures), batch)]
    return np.concatenate(parts)


def psnr(first: Pictures, second: Pictures) -> float:
    """Mean over pictures of the peak signal-to-noise ratio in dB."""
    error = np.square(first.astype(np.float32) - second.astype(np.float32)).mean(axis=(1, 2, 3)) / 255**2
    return float((-10 * np.log10(np.maximum(error, 1e-10))).mean())


def pairs_grid(above: Pictures, below: Pictures, *, columns: int = 8) -> Pictures:
    """Rows of pictures, each row over its counterpart."""
    rows = [
        np.concatenate(list(part[i : i + columns]), axis=1)
        for i in range(0, len(above), columns)
        for part in (above, below)
    ]
    return np.concatenate(rows)


def whiten_latents(vq: VQModel, pictures: Pictures) -> None:
    """Set the last layer before the codes so that latents of `pictures` have mean 0 and covariance 1.

    A fresh encoder sends all pictures to nearly one direction, and hundreds of steps go into spreading them.
    """
    with torch.no_grad():
        features = vq.encoder(to_patches(pictures, patch=patch_of(vq))).permute(0, 2, 3, 1).flatten(0, 2)
        mean = features.mean(0)
        variances, directions = torch.linalg.eigh(torch.cov((features - mean).T))
        kept = slice(-vq.quantize.vq_embed_dim, None)
        whitening = (directions[:, kept] / variances[kept].clamp_min(1e-8).sqrt()).T
        vq.quant_conv.weight.copy_(whitening[:, :, None, None])
        vq.quant_conv.bias.copy_(-whitening @ mean)


def shipped(vq: VQModel, average: dict[str, Tensor]) -> VQModel:
    """A float32 copy of the network with the averaged weights and the present codebook."""
    copy: VQModel = VQModel.from_config({k: v for k, v in vq.config.items() if k != "_name_or_path"})
    weights = {name: value.detach().clone() for name, value in vq.state_dict().items()}
    copy.load_state_dict({**weights, **average})
    return copy.eval()


def export(vq: VQModel, folder: Path, *, sample: Pictures) -> None:
    """Save a copy of the network in float16 for `VQModel.from_pretrained`.

    The latents' length, free in training, is brought to about 4 on `sample`, so that the rounding of the codes'
    length, one to three digits, cannot decide between two of them. The factor is a power of two: it costs no digits,
    and leaves a model that has been saved before exactly as it is.
    """
    vq = shipped(vq, {})
    with torch.no_grad():
        length = float(vq.encode(to_patches(sample, patch=patch_of(vq))).latents.norm(dim=1).mean())
        gain = 2.0 ** round(math.log2(4 / length))
        vq.quant_conv.weight.mul_(gain)
        vq.quant_conv.bias.mul_(gain)
    vq.half().save_pretrained(folder)
