"""The judge's eyes: which sticker stands in each of nine places, and what the background is.

In: a picture, uint8 (128, 128, 3). Out: what was seen, as plain data. Neither the model nor the renderer is imported:
stickers are named by a small convolutional network (trained in `dimoo.train.recogniser` on renderings and on what a
VQ round trip leaves of them), backgrounds by pixel statistics.

The network looks through nine windows of 48 px, which lie exactly on the 3 x 3 lattice of places; its field of view
around each is wide enough for a sticker of 96 px. Shape legend: B pictures, S = 9 places in reading order, U concepts,
T styles.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dimoo.data.stickers.colours import BACKGROUNDS
from dimoo.data.stickers.scenes import CANVAS, GRADIENT_COLOURS, LARGE, PLACES, SMALL, Background, Sticker

SHIPPED = Path(__file__).parents[1] / "assets" / "judge" / "recogniser.safetensors"
SIZES = (0, SMALL, LARGE)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One sticker as the judge sees it. `confidence` is the product of the three decisions' probabilities."""

    place: str
    concept: str
    style: str
    size: int
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Scores of the nine places: sizes (B, S, 3; first: nothing there), concepts (B, S, U), styles (B, S, T)."""

    sizes: Tensor
    concepts: Tensor
    styles: Tensor


class Block(nn.Module):
    """Convolution, batch norm, SiLU; residual where the shape allows."""

    def __init__(self, inner: int, outer: int, *, kernel: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride=stride, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(outer)
        self.residual = inner == outer and stride == 1 and kernel == 3

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.silu(self.norm(self.conv(x)))
        return x + y if self.residual else y


class PlaceNet(nn.Module):
    """Pictures (B, 3, 128, 128) in [0, 1] to `Logits`."""

    def __init__(self, *, concepts: int, styles: int, width: int = 96) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            Block(48, 64), Block(64, width, stride=2), Block(width, width), Block(width, width), Block(width, width)
        )
        self.window = nn.Sequential(
            Block(width, 48, kernel=1, padding=0), Block(48, 160, kernel=6, stride=5, padding=0)
        )
        self.parts = (len(SIZES), concepts, styles)
        self.head = nn.Conv2d(160, sum(self.parts), 1)

    def forward(self, pixels: Tensor) -> Logits:
        x = F.pixel_unshuffle(pixels * 2 - 1, 4).contiguous(memory_format=torch.channels_last)
        scores = self.head(self.window(self.trunk(x))).flatten(2).transpose(1, 2).float()
        sizes, concepts, styles = scores.split(self.parts, dim=-1)
        return Logits(sizes=sizes, concepts=concepts, styles=styles)


class Recogniser:
    """A trained network and the names of what it tells apart."""

    def __init__(self, net: PlaceNet, *, concepts: Sequence[str], styles: Sequence[str]) -> None:
        self.net = net.eval()
        self.concepts = tuple(concepts)
        self.styles = tuple(styles)

    @classmethod
    def load(cls, file: Path | None = None) -> Recogniser:
        """The recogniser in `file`, by default the one shipped with the package (read once)."""
        return _load(file or SHIPPED)

    def save(self, file: Path) -> None:
        """Write float16 weights and the names."""
        file.parent.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half() if v.is_floating_point() else v for k, v in self.net.state_dict().items()}
        names = {"concepts": json.dumps(self.concepts), "styles": json.dumps(self.styles)}
        save_file({k: v.contiguous() for k, v in weights.items()}, file, metadata=names)

    def recognise(self, picture: np.ndarray) -> list[Seen]:
        """What stands where, in reading order."""
        return self.recognise_many(picture[None])[0]

    def recognise_many(self, pictures: np.ndarray) -> list[list[Seen]]:
        """`recognise` for uint8 (B, 128, 128, 3)."""
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (CANVAS, CANVAS, 3):
            raise ValueError(f"the judge sees uint8 pictures of 128x128x3, got {pictures.dtype} {pictures.shape[1:]}")
        pixels = torch.from_numpy(np.require(pictures, requirements=["C", "W"])).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            logits = self.net(pixels)
        sure = [part.softmax(-1).max(-1) for part in (logits.sizes, logits.concepts, logits.styles)]
        confidence = math.prod([part.values for part in sure], start=torch.ones(()))
        chosen = torch.stack([part.indices for part in sure], dim=-1).tolist()
        return [
            [
                Seen(
                    place=place,
                    concept=self.concepts[concept],
                    style=self.styles[style],
                    size=SIZES[size],
                    confidence=float(confidence[b, s]),
                )
                for s, (place, (size, concept, style)) in enumerate(zip(PLACES, row, strict=True))
                if size > 0
            ]
            for b, row in enumerate(chosen)
        ]

    def scene(self, picture: np.ndarray) -> tuple[tuple[Sticker, ...], Background]:
        """Stickers and background in the words of scenes; jitter is not told."""
        seen = self.recognise(picture)
        stickers = [Sticker(concept=s.concept, style=s.style, place=s.place, size=s.size) for s in seen]
        kind_and_colours = background(picture)
        return tuple(stickers), kind_and_colours


def background(picture: np.ndarray, *, tolerance: float = 14.0, margin: int = 8) -> Background:
    """The background that explains most pixels of a uint8 picture (H, W, 3); those near the margin count threefold.

    Plain and two-tone are the best colour of the upper and of the lower half; a gradient fades to white downwards.
    """
    height, width = picture.shape[:2]
    pixels = picture.astype(np.float32)
    weight = np.full((height, width), 3.0, np.float32)
    weight[margin:-margin, margin:-margin] = 1.0
    colours = np.array(list(BACKGROUNDS.values()), np.float32)
    plain = np.stack([_agreement(pixels, colour[None, None], tolerance) for colour in colours]) * weight
    upper, lower = plain[:, : height // 2].sum(axis=(1, 2)), plain[:, height // 2 :].sum(axis=(1, 2))
    names = list(BACKGROUNDS)
    best = (names[int(upper.argmax())], names[int(lower.argmax())])
    down = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    fading = {
        name: float((_agreement(pixels, (colour + (255 - colour) * down)[:, None], tolerance) * weight).sum())
        for name in GRADIENT_COLOURS
        for colour in [np.array(BACKGROUNDS[name], np.float32)]
    }
    gradient = max(fading, key=lambda name: fading[name])
    if fading[gradient] > upper.max() + lower.max():
        return Background(kind="gradient", colours=(gradient,))
    if best[0] == best[1]:
        return Background(kind="plain", colours=best[:1])
    return Background(kind="two-tone", colours=best)


def _agreement(pixels: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """1 where a pixel has the expected colour, falling off with the squared distance."""
    return np.exp(-np.square(pixels - expected).mean(axis=-1) / (2 * tolerance**2))


@functools.cache
def _load(file: Path) -> Recogniser:
    with safe_open(file, framework="pt") as stored:
        names = stored.metadata()
        weights = {key: stored.get_tensor(key) for key in stored.keys()}
    concepts, styles = json.loads(names["concepts"]), json.loads(names["styles"])
    net = PlaceNet(concepts=len(concepts), styles=len(styles))
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return Recogniser(net, concepts=concepts, styles=styles)
