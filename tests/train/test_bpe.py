"""The tokenizer that is trained on the world's texts: any text comes back, tags and system prompts are single ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dimoo.page.templates import CLOSING, SYSTEM, UNCONDITION, opening
from dimoo.tokenizers.text import TextTokenizer
from dimoo.train.bpe import NAMED_TAGS, OTHER_TAGS, make_vocab, train_tokenizer, write_tokenizer
from dimoo.vocab import Vocab

TEXTS = ["a red fox on the left", "a blue whale above a red fox", "白色背景上的狐狸", "how many foxes are there?"] * 8
TOKENIZER = train_tokenizer(TEXTS, entries=600)
TAGS = (*NAMED_TAGS.values(), *OTHER_TAGS)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40).filter(lambda text: not any(tag in text for tag in TAGS)))
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(encode(TOKENIZER, text), skip_special_tokens=True) == text


@pytest.mark.parametrize("text", ["a red fox", " 狐狸", "naïve café 🦊\n\t", "'s 's", *SYSTEM.values()])
def test_examples_come_back(text: str) -> None:
    assert TOKENIZER.decode(encode(TOKENIZER, text), skip_special_tokens=True) == text


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_one_id_wherever_it_stands(tag: str) -> None:
    (alone,) = encode(TOKENIZER, tag)
    assert encode(TOKENIZER, f"a fox{tag}a fox")[-len(encode(TOKENIZER, "a fox")) - 1] == alone


@pytest.mark.parametrize("system", sorted(SYSTEM))
def test_a_prompt_costs_five_ids_and_its_words(system: str) -> None:
    words = encode(TOKENIZER, "a red fox")
    assert len(encode(TOKENIZER, opening(system) + "a red fox" + CLOSING)) == 5 + len(words)
    assert len(encode(TOKENIZER, opening(system) + UNCONDITION + CLOSING)) == 6


def test_words_of_the_world_are_single_ids() -> None:
    assert len(encode(TOKENIZER, "a red fox on the left")) == 6
    assert len(encode(TOKENIZER, "白色背景上的狐狸")) < 5


def test_vocabulary_and_files_agree(tmp_path: Path) -> None:
    vocab = make_vocab(TOKENIZER, codes=64)
    write_tokenizer(TOKENIZER, vocab, tmp_path)
    text = TextTokenizer.load(tmp_path)
    assert Vocab.load(tmp_path) == vocab
    assert text.check(vocab) == []
    assert vocab.size - vocab.image_offset == 64
    assert max(TOKENIZER.get_vocab().values()) == vocab.image_offset - 1
    for tag in (*TAGS, *SYSTEM.values()):
        assert text.encode(tag)[0] in vocab.structural
    assert vocab.answer_end not in vocab.not_text
    assert text.decode(text.encode("a red fox</answer>")) == "a red fox"
