"""Text through a checkpoint's own files; long words cut within the words, never through a tag.

Broken on purpose to see these fail: the cut on ids rather than on characters; special tokens added.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from engine_fixtures import VOCAB
from hypothesis import given
from hypothesis import strategies as st

from dimoo.tokenizers.text import TextTokenizer
from dimoo.vocab import Vocab


@pytest.fixture(scope="module")
def text(random_checkpoint: Path) -> TextTokenizer:
    return TextTokenizer.load(random_checkpoint)


def test_there_and_back(text: TextTokenizer, random_checkpoint: Path) -> None:
    vocab = Vocab.load(random_checkpoint)
    assert text.decode(text.encode("a red fox, naïve 狐")) == "a red fox, naïve 狐"
    ids = text.encode("<system>x</system><user><uncondition></user>")
    assert vocab.uncondition in ids and text.encode("</user>") == ids[-1:]
    assert text.token_id("<answer>") == vocab.answer_start and text.token_id("<nothing>") is None
    assert text.check(vocab) == []


def test_a_vocabulary_that_disagrees_is_told(text: TextTokenizer) -> None:
    # Broken to try it: tokens that the tokenizer does not know reported too.
    lines = text.check(VOCAB)
    assert len(lines) == 7 and any(line.startswith("mask: the tokenizer says <|mdm_mask|> =") for line in lines)


def characters() -> TextTokenizer:
    """One id a character, tags one id each."""

    def encode(words: str) -> list[int]:
        for i, tag in enumerate(("<system>", "</system>", "<user>", "</user>")):
            words = words.replace(tag, chr(1 + i))
        return [ord(letter) for letter in words]

    return TextTokenizer(encode, lambda ids: "".join(map(chr, ids)), lambda token: None)


@given(st.text(st.characters(min_codepoint=97, max_codepoint=122), max_size=30), st.integers(7, 40))
def test_words_are_cut_and_tags_are_not(words: str, limit: int) -> None:
    # Broken to try it: ids[:limit].
    ids = characters().encode_within("<system>sys</system><user>", words, "</user>", limit)
    room = limit - 7
    assert ids == [1, *map(ord, "sys"), 2, 3, *map(ord, words[:room]), 4]


def test_a_cut_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        characters().encode_within("<user>", "abcdefgh", "</user>", 7)
    assert "3 of its 8 characters were cut" in caplog.text
    with pytest.raises(ValueError, match="fixed part alone needs more than 1 ids"):
        characters().encode_within("<user>", "abcdefgh", "</user>", 1)


def test_other_tokenizer_files(random_checkpoint: Path, tmp_path: Path) -> None:
    """Without tokenizer.json transformers reads what there is, never with remote code."""
    with pytest.raises(ValueError, match="has no tokenizer files"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is no readable tokenizer"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "NoSuchTokenizer"}))
    with pytest.raises(ValueError, match="the tokenizer cannot be read"):
        TextTokenizer.load(tmp_path)


def test_a_tokenizer_read_by_transformers_agrees(random_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(random_checkpoint / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    fast, slow = TextTokenizer.load(random_checkpoint), TextTokenizer.slow(tmp_path)
    for words in ("a red fox", "<user>two</user>", "<answer>"):
        assert slow.encode(words) == fast.encode(words)
    assert slow.token_id("<answer>") == fast.token_id("<answer>") and slow.token_id("<nothing>") is None
    assert slow.decode(slow.encode("a red fox")) == "a red fox"
