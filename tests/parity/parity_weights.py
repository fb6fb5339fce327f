"""The weights of a parity checkpoint, rebuilt from its seed: only golden files need to be stored.

For the tensor n and seed s, with k the first 8 bytes (little-endian) of SHA-256 of "n:s", element i is
splitmix64(k + (i + 1) * 0x9E3779B97F4A7C15) >> 11, times 2^-53: u in [0, 1). What becomes of u depends on the tensor.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from math import prod
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from dimoo.model.checkpoint import authors_parts
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer


def uniform(name: str, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    key = int.from_bytes(hashlib.sha256(f"{name}:{seed}".encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        x = np.uint64(key) + np.arange(1, prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return ((x >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def backbone_weights(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Every tensor under the authors' names, bfloat16."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Transformer(config).named_parameters()}
    weights = {}
    for ours, parts in authors_parts(config).items():
        for part in parts:
            u = uniform(part.name, seed, (part.rows, *shapes[ours][1:]))
            value = (
                0.5 + u
                if "norm" in part.name or "ln_f" in part.name
                else spread(part.name, config.d_model) * ((2 * u - 1) * 3**0.5)
            )
            weights[part.name] = torch.from_numpy(value).to(torch.bfloat16)
    return weights


def spread(name: str, d_model: int) -> float:
    leaf = name.split(".")[-2]
    if leaf == "wte":
        return 1.0
    if leaf in ("q_proj", "k_proj"):
        return 2.5 / d_model**0.5
    if name == "model.transformer.ff_out.weight":
        return 3.0 / d_model**0.5
    return 1.2 / d_model**0.5


def vq_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Every tensor of the VQ model under diffusers' names, float16."""
    weights = {}
    for name, shape in shapes.items():
        u = uniform(f"vqvae.{name}", seed, shape)
        if name.endswith("bias"):
            value = 0.2 * (u - 0.5)
        elif "norm" in name:
            value = 0.75 + 0.5 * u
        elif name == "quantize.embedding.weight":
            value = (2 * u - 1) * 3**0.5 * 0.5
        else:
            value = (2 * u - 1) * 3**0.5 / prod(shape[1:]) ** 0.5
        weights[name] = torch.from_numpy(value).to(torch.float16)
    return weights


def rebuild(golden: Path, folder: Path) -> Path:
    """A whole fixture in `folder`: the golden files copied, the weights made anew."""
    shutil.copytree(golden, folder, dirs_exist_ok=True)
    seed = json.loads((folder / "golden.json").read_text())["seed"]
    config = ModelConfig.from_json(json.loads((folder / "config.json").read_text()), origin="fixture")
    save_file(backbone_weights(config, seed), folder / "model.safetensors")
    from diffusers import VQModel

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    with torch.device("meta"):
        vq = VQModel.from_config(VQModel.load_config(str(folder / "vqvae")))
    shapes = {name: tuple(value.shape) for name, value in vq.state_dict().items()}
    save_file(vq_weights(shapes, seed), folder / "vqvae" / "diffusion_pytorch_model.safetensors")
    return folder


if __name__ == "__main__":  # python tests/parity/parity_weights.py FOLDER: for `dimoo parity FOLDER`
    import sys

    print(rebuild(Path(__file__).parent / "official-a", Path(sys.argv[1])))
