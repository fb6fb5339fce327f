"""Weights in and out: sharded safetensors, under the authors' names or ours.

In: a local folder or a hub id. Out: a `Transformer` on a device in a dtype; and back.
The adapter is one table: each of our tensors is the concatenation, along its rows, of one or more of theirs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dimoo.model.config import ModelConfig
from dimoo.model.quantise import Quantisation, quantise_linear
from dimoo.model.transformer import Transformer
from dimoo.vocab import read_json as read_json

Layout = Literal["dimoo", "authors"]
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Part:
    """A stored tensor and the rows of our tensor that it fills."""

    name: str
    rows: int


def authors_parts(config: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our tensor names, each with the authors' tensors that make it up, in row order."""
    root, width, kv = "model.transformer.", config.d_model, config.n_kv_heads * config.head_dim
    parts: dict[str, tuple[Part, ...]] = {"embedding.weight": (Part(f"{root}wte.weight", config.vocab_size),)}
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}.", f"{root}blocks.{layer}."
        parts |= {
            f"{ours}attention_norm.weight": (Part(f"{theirs}attn_norm.weight", width),),
            f"{ours}qkv.weight": (
                Part(f"{theirs}q_proj.weight", width),
                Part(f"{theirs}k_proj.weight", kv),
                Part(f"{theirs}v_proj.weight", kv),
            ),
            f"{ours}attention_out.weight": (Part(f"{theirs}attn_out.weight", width),),
            f"{ours}mlp_norm.weight": (Part(f"{theirs}ff_norm.weight", width),),
            f"{ours}gate_up.weight": (
                Part(f"{theirs}ff_proj.weight", config.d_ff),
                Part(f"{theirs}up_proj.weight", config.d_ff),
            ),
            f"{ours}down.weight": (Part(f"{theirs}ff_out.weight", width),),
        }
    parts["final_norm.weight"] = (Part(f"{root}ln_f.weight", width),)
    if not config.tied:
        parts["head.weight"] = (Part(f"{root}ff_out.weight", config.vocab_size),)
    return parts


def find(path_or_id: str | Path) -> Path:
    """A local folder as it is; what looks like a hub id is downloaded, with progress. ValueError if neither."""
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder
    if str(path_or_id).count("/") != 1 or folder.is_absolute() or str(path_or_id).startswith("."):
        raise ValueError(f"no checkpoint folder at {path_or_id!s}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path_or_id), allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path_or_id!s} is no local folder, and the hub did not give it: {reason}") from error


def load_config(folder: Path) -> ModelConfig:
    file = folder / "config.json"
    return ModelConfig.from_json(read_json(file), origin=str(file))


def load_model(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    quantise: Quantisation | None = None,
) -> Transformer:
    """The backbone of a checkpoint folder; `dtype` None keeps the stored one. With `quantise` the matrices of the
    blocks are turned into eight bits one by one as they are read.

    Weights are allocated once and filled tensor by tensor, each file being let go in between, so that memory grows
    by little more than the weights. ValueError names what is missing, misshapen or not finite.
    """
    config = load_config(folder)
    parts = authors_parts(config)
    where = weight_files(folder)
    stored_as_authors = next(iter(parts.values()))[0].name in where
    with torch.device("meta"):
        model = Transformer(config)
    for name, parameter in list(model.named_parameters()):
        sources = parts[name] if stored_as_authors else (Part(name, parameter.shape[0]),)
        target: Tensor | None = None
        row = 0
        for source in sources:
            shape = (source.rows, *parameter.shape[1:])
            for first, chunk in read_rows(where, source.name, shape, folder):
                if target is None:
                    target = torch.empty(parameter.shape, dtype=dtype or chunk.dtype, device=device)
                narrower = torch.finfo(target.dtype).max < torch.finfo(chunk.dtype).max
                if narrower and bool(chunk.abs().max() > torch.finfo(target.dtype).max):
                    raise ValueError(f"{where[source.name]}: {source.name} holds values too large for {target.dtype}")
                target[row + first : row + first + len(chunk)].copy_(chunk)
            row += source.rows
        assert target is not None, "every parameter has rows"
        _set(model, name, target)
        layer = model.get_submodule(name.rpartition(".")[0])
        if quantise is not None and name.startswith("blocks.") and isinstance(layer, torch.nn.Linear):
            quantise_linear(layer, quantise)
    return model.eval().requires_grad_(False)


def weight_files(folder: Path) -> dict[str, Path]:
    """Where each tensor is stored. ValueError names a missing shard or an unreadable file."""
    if (folder / INDEX).exists():
        table = read_json(folder / INDEX).get("weight_map")
        if not isinstance(table, dict) or any(Path(str(shard)).name != shard for shard in table.values()):
            raise ValueError(f"{folder / INDEX} has no weight_map of tensor names to files beside it")
        for shard in sorted(set(table.values())):
            if not (folder / shard).is_file():
                raise ValueError(f"{folder}: the shard {shard} is missing")
        return {name: folder / shard for name, shard in table.items()}
    file = folder / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"{folder} holds neither {INDEX} nor model.safetensors")
    with _open(file) as opened:
        return {name: file for name in opened.keys()}


def _open(file: Path) -> Any:
    try:
        return safe_open(str(file), framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a readable safetensors file: {error}") from error


CHUNK = 1 << 22  # elements read at a time: 8 MiB in bfloat16, and a few times that while they are checked


def read_rows(where: dict[str, Path], name: str, shape: tuple[int, ...], folder: Path) -> Iterator[tuple[int, Tensor]]:
    """A stored tensor in pieces (first row, rows): the file is opened anew for each so that its pages are let go."""
    if name not in where:
        raise ValueError(f"{folder}: the tensor {name} is missing")
    width = max(1, torch.Size(shape[1:]).numel())
    rows = max(1, CHUNK // width)
    for first in range(0, shape[0], rows):
        with _open(where[name]) as opened:
            piece = opened.get_slice(name)
            if tuple(piece.get_shape()) != shape:
                raise ValueError(f"{where[name]}: {name} has shape {tuple(piece.get_shape())}, expected {shape}")
            chunk: Tensor = piece[first : first + rows]
        if not chunk.is_floating_point():
            raise ValueError(f"{where[name]}: {name} holds {chunk.dtype}, expected floating-point numbers")
        if not bool(torch.isfinite(chunk).all()):
            raise ValueError(f"{where[name]}: {name} holds values that are not finite (NaN or infinity)")
        yield first, chunk


def _set(model: Transformer, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(value, requires_grad=False))


def save_model(
    model: Transformer,
    folder: Path,
    *,
    layout: Layout = "dimoo",
    dtype: torch.dtype | None = None,
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Write config.json and weights, in shards of at most `shard_bytes`; all are renamed into place at the end.

    Weights of an earlier checkpoint in the folder are taken away, so that no old index names them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    values = config.to_json() if layout == "dimoo" else config.to_authors_json()
    shards: list[list[tuple[str, Tensor]]] = [[]]
    size = 0
    for name, tensor in _stored(model, layout, dtype):
        bytes_needed = tensor.numel() * tensor.element_size()
        if shards[-1] and size + bytes_needed > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append((name, tensor))
        size += bytes_needed
    files = ["model.safetensors"]
    if len(shards) > 1:
        files = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    partial = folder / ".partial"
    partial.mkdir(exist_ok=True)
    try:
        for file, shard in zip(files, shards, strict=True):
            save_file({name: tensor.contiguous() for name, tensor in shard}, partial / file, metadata={"format": "pt"})
        if len(shards) > 1:
            table = {name: file for file, shard in zip(files, shards, strict=True) for name, _ in shard}
            (partial / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": table}, indent=1))
        (partial / "config.json").write_text(json.dumps(values, indent=1) + "\n")
        written = sorted(file.name for file in partial.iterdir())
        for name in written:
            (partial / name).replace(folder / name)
        for old in (folder / INDEX, folder / "model.safetensors", *folder.glob("model-*-of-*.safetensors")):
            if old.name not in written:
                old.unlink(missing_ok=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _stored(model: Transformer, layout: Layout, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    parts = authors_parts(model.config)
    for name, parameter in model.named_parameters():
        tensor = parameter.detach().to("cpu", dtype or parameter.dtype)
        if layout == "dimoo":
            yield name, tensor
            continue
        pieces = tensor.split([part.rows for part in parts[name]])
        yield from ((part.name, piece) for part, piece in zip(parts[name], pieces, strict=True))
