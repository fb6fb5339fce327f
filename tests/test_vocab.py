"""The special ids: read from a checkpoint, checked, written; the authors' layout."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from engine_fixtures import VOCAB

from dimoo.vocab import Vocab, authors_vocab


def test_there_and_back(tmp_path: Path) -> None:
    VOCAB.save(tmp_path)
    assert Vocab.load(tmp_path) == VOCAB


def test_the_authors_layout(tmp_path: Path) -> None:
    golden = json.loads((Path(__file__).parent / "parity" / "official-a" / "golden.json").read_text())["ids"]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llada", "vocab_size": 134_548}))
    vocab = Vocab.load(tmp_path)
    assert vocab == authors_vocab()
    for name, value in golden.items():
        assert getattr(vocab, {"pad_answer": "answer_pad"}.get(name, name)) == value
    assert vocab.codes == 8192
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llada", "vocab_size": 134_548, "embedding_size": 134_656})
    )
    assert Vocab.load(tmp_path).size == 134_656


def test_text_may_end_and_be_padded_but_hold_no_structure() -> None:
    # Broken to try it: `answer_end` among the forbidden: no answer would end.
    vocab = authors_vocab()
    assert not {vocab.answer_end, vocab.answer_pad} & set(vocab.not_text)
    assert {vocab.mask, vocab.newline, vocab.boi, vocab.eoi, vocab.uncondition, vocab.answer_start} <= set(
        vocab.not_text
    )
    assert set(VOCAB.structural) <= set(VOCAB.not_text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": VOCAB.newline}, "special ids must differ"),
        ({"boi": VOCAB.image_offset}, "special id boi = 52 must lie between 0 and image_offset 52"),
        ({"image_offset": VOCAB.size}, "must lie between 0 and the vocabulary size"),
    ],
)
def test_impossible_ids(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VOCAB, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maks": 3}, r"unknown keys \['maks'\]"),
        ({"mask": None}, r"missing keys \['mask'\]"),
        ({"mask": "3"}, r"mask must be an id, got '3'"),
    ],
)
def test_a_broken_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = {key: value for key, value in {**dataclasses.asdict(VOCAB), **change}.items() if value is not None}
    (tmp_path / "vocab.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        Vocab.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "bert"}', '{"model_type": "llada"}'])
def test_a_folder_without_ids(tmp_path: Path, text: str) -> None:
    # All but the third failed: a JSON error that named no file, AttributeError for a list, KeyError for no size.
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=str(tmp_path.name)):
        Vocab.load(tmp_path)
    (tmp_path / "vocab.json").write_text(text)
    with pytest.raises(ValueError, match=r"vocab\.json"):
        Vocab.load(tmp_path)
