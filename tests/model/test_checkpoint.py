"""Weights in and out: both layouts, shards, dtypes; every kind of damage is named.

Broken on purpose to see these fail: key and value parts exchanged; only the first chunk of a tensor read; an old index
left beside newly written weights; no check for values that are not finite.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_fixtures import small_model
from safetensors.torch import load_file, save_file

from dimoo.model import checkpoint
from dimoo.model.checkpoint import INDEX, Layout, find, load_config, load_model, read_json, save_model
from dimoo.model.transformer import Transformer


def same(one: Transformer, two: Transformer) -> bool:
    mine, theirs = dict(one.named_parameters()), dict(two.named_parameters())
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("sizes", [{}, {"tied": True}, {"n_kv_heads": 4}])
@pytest.mark.parametrize("layout", ["dimoo", "authors"])
@pytest.mark.parametrize("shard", [5_000_000_000, 6_000])
def test_what_is_saved_comes_back(
    tmp_path: Path, layout: Layout, sizes: dict[str, Any], shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Broken to try it: parts of qkv in another order; the last rows of a chunked tensor left empty.
    monkeypatch.setattr(checkpoint, "CHUNK", 700)  # several pieces a tensor
    model = small_model(2, **sizes)
    save_model(model, tmp_path, layout=layout, shard_bytes=shard)
    assert (tmp_path / INDEX).exists() == (shard == 6_000)
    loaded = load_model(tmp_path)
    assert same(model, loaded) and loaded.config == model.config and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    again = tmp_path / "again"
    save_model(loaded, again, layout=layout)
    files = {file.name for file in again.iterdir()}
    assert files == {"config.json", "model.safetensors"}, "nothing half-written is left behind"
    whole = {name: value for file in tmp_path.glob("*.safetensors") for name, value in load_file(file).items()}
    back = load_file(again / "model.safetensors")
    assert whole.keys() == back.keys() and all(torch.equal(whole[name], back[name]) for name in whole)


def test_dtypes(tmp_path: Path) -> None:
    model = small_model()
    save_model(model, tmp_path, dtype=torch.bfloat16)
    assert load_model(tmp_path).dtype == torch.bfloat16
    wide = load_model(tmp_path, dtype=torch.float32)
    assert wide.dtype == torch.float32
    torch.testing.assert_close(wide.head_weight, model.head_weight.bfloat16().float())


def test_saving_over_another_checkpoint_leaves_none_of_it_in_force(tmp_path: Path) -> None:
    """A sharded checkpoint has an index; weights written over it in one file must be the ones that load."""
    # This failed: the old index went on naming the old shards.
    save_model(small_model(1), tmp_path, shard_bytes=6_000)
    new = small_model(2)
    save_model(new, tmp_path)
    assert same(load_model(tmp_path), new)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    save_model(small_model(3), tmp_path, shard_bytes=6_000)
    assert not (tmp_path / "model.safetensors").exists()
    save_model(new, tmp_path, shard_bytes=40_000)
    assert same(load_model(tmp_path), new)
    used = {*json.loads((tmp_path / INDEX).read_text())["weight_map"].values(), INDEX, "config.json"}
    assert {file.name for file in tmp_path.iterdir()} == used


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "adapter.safetensors").write_bytes(b"mine")
    save_model(small_model(), tmp_path)
    save_model(small_model(), tmp_path, shard_bytes=6_000)
    assert (tmp_path / "tokenizer.json").read_text() == "{}"
    assert (tmp_path / "adapter.safetensors").read_bytes() == b"mine"


def test_a_failed_save_leaves_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Broken to try it: shards written straight into the folder.
    old = small_model(1)
    save_model(old, tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save_model(small_model(2), tmp_path)
    monkeypatch.undo()
    assert same(load_model(tmp_path), old)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def damage(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Replace a tensor wherever it is stored; None takes it out."""
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            if value is None:
                del tensors[name]
            else:
                tensors[name] = value
            save_file(tensors, file)


KEYS = "model.transformer.blocks.1.k_proj.weight"


def test_damage_is_named(tmp_path: Path) -> None:
    # Broken to try it: no isfinite; the shape of the whole file taken for granted.
    save_model(small_model(), tmp_path, layout="authors")
    good = load_file(tmp_path / "model.safetensors")[KEYS]
    bad = good.clone()
    bad[-1, -1] = torch.nan
    damage(tmp_path, KEYS, bad)
    with pytest.raises(ValueError, match=rf"{KEYS} holds values that are not finite"):
        load_model(tmp_path)
    damage(tmp_path, KEYS, good[:-1].clone())
    with pytest.raises(ValueError, match=rf"{KEYS} has shape \(15, 32\), expected \(16, 32\)"):
        load_model(tmp_path)
    damage(tmp_path, KEYS, torch.zeros(16, 32, dtype=torch.int8))
    with pytest.raises(ValueError, match=rf"{KEYS} holds torch.int8"):
        load_model(tmp_path)
    damage(tmp_path, KEYS, good.flatten())
    with pytest.raises(ValueError, match=rf"{KEYS} has shape \(512,\), expected \(16, 32\)"):
        load_model(tmp_path)
    damage(tmp_path, KEYS, None)
    with pytest.raises(ValueError, match=f"the tensor {KEYS} is missing"):
        load_model(tmp_path)


def test_values_too_large_for_the_dtype_asked_for_are_named(tmp_path: Path) -> None:
    # This failed: a finite float32 became an infinite float16 without a word.
    model = small_model()
    model.blocks[0].down.weight[0, 0] = 1e6
    save_model(model, tmp_path)
    with pytest.raises(ValueError, match=r"blocks\.0\.down\.weight .*float16"):
        load_model(tmp_path, dtype=torch.float16)
    assert same(load_model(tmp_path), model)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path, shard_bytes=6_000)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[2]
    shard.unlink()
    with pytest.raises(ValueError, match=f"the shard {shard.name} is missing"):
        load_model(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a readable safetensors file"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "table", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../b"}}']
)
def test_a_broken_index_is_named(tmp_path: Path, table: str) -> None:
    # This failed: KeyError, AttributeError and TypeError for a user's file.
    save_model(small_model(), tmp_path)
    (tmp_path / INDEX).write_text(table)
    with pytest.raises(ValueError, match=r"index\.json"):
        load_model(tmp_path)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no checkpoint: it holds no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps(small_model().config.to_json()))
    with pytest.raises(ValueError, match=r"neither model\.safetensors\.index\.json nor model\.safetensors"):
        load_model(tmp_path)


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(tmp_path) == tmp_path
    for wrong in (tmp_path / "absent", "./absent", "absent", "a/b/c"):
        with pytest.raises(ValueError, match="no checkpoint folder at"):
            find(wrong)
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(tmp_path / name.replace("/", "_")))
    assert find("some/model") == tmp_path / "some_model"

    def refuse(*_: Any, **__: Any) -> str:
        raise OSError("offline\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ValueError, match=r"some/model is no local folder, and the hub did not give it: offline$"):
        find("some/model")
