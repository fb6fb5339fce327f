"""Checkpoints written anew: both layouts, everything else alongside, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dimoo.model import convert
from dimoo.model.checkpoint import load_model, read_json
from dimoo.model.convert import convert_checkpoint
from dimoo.pipeline import load
from dimoo.vocab import Vocab


def test_there_and_back(random_checkpoint: Path, tmp_path: Path) -> None:
    # Broken to try it: the vocabulary left behind: the authors' layout then means the authors' ids.
    theirs, ours = tmp_path / "deep" / "theirs", tmp_path / "ours"
    convert_checkpoint(random_checkpoint, theirs, layout="authors")
    assert read_json(theirs / "config.json")["model_type"] == "llada"
    assert Vocab.load(theirs) == Vocab.load(random_checkpoint)
    convert_checkpoint(theirs, ours, layout="dimoo")
    before, after = (dict(load_model(folder).named_parameters()) for folder in (random_checkpoint, ours))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {file.name for file in random_checkpoint.iterdir()} <= {file.name for file in ours.iterdir()}
    assert load(ours, device="cpu").tools.defaults == load(random_checkpoint, device="cpu").tools.defaults
    half = tmp_path / "half"
    convert_checkpoint(random_checkpoint, half, layout="dimoo", dtype=torch.bfloat16)
    assert load_model(half).dtype == torch.bfloat16


def test_whole_or_not_at_all(random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Broken to try it: written straight to the destination.
    with pytest.raises(ValueError, match="is there already"):
        convert_checkpoint(random_checkpoint, tmp_path, layout="dimoo")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="can't be made"):
        convert_checkpoint(random_checkpoint, tmp_path / "file" / "new", layout="dimoo")
    with pytest.raises(ValueError, match=r"holds neither vocab\.json"):
        convert_checkpoint(tmp_path / "absent", tmp_path / "new", layout="dimoo")

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "save_model", fail)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(random_checkpoint, tmp_path / "new", layout="dimoo")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
