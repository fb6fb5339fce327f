"""The small model's text tokenizer and vocabulary, from the texts of its world.

In: texts (prompts, answers). Out: `tokenizer.json` and `vocab.json` in a checkpoint folder, and the `Vocab`.

A byte-level BPE [Sennrich 2016; Radford 2019], so that any Unicode text round-trips. Every tag of a page is a single
id, and so is every system prompt: it is encoded from the plain string like any text, and costs a page one id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from dimoo.page.templates import SYSTEM
from dimoo.vocab import AUTHORS_TOKENS, Vocab

NAMED_TAGS = {**AUTHORS_TOKENS, "answer_pad": "<|answer_pad|>"}
OTHER_TAGS = ("<|endoftext|>", "<system>", "</system>", "<user>", "</user>")


def train_tokenizer(
    texts: Iterable[str],
    *,
    entries: int = 4096,
    min_frequency: int = 2,
    sentences: Sequence[str] = tuple(SYSTEM.values()),
) -> Tokenizer:
    """A tokenizer of at most `entries` ids: tags first, then bytes and merges, last the `sentences`.

    Merges end where fewer than `min_frequency` pairs are left, so a regular world needs fewer ids than allowed.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries - len(sentences),
        min_frequency=min_frequency,
        special_tokens=[AddedToken(tag, normalized=False, special=True) for tag in (*NAMED_TAGS.values(), *OTHER_TAGS)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(sentence, normalized=False, special=False) for sentence in sentences])
    return tokenizer


def make_vocab(tokenizer: Tokenizer, *, codes: int, sentences: Sequence[str] = tuple(SYSTEM.values())) -> Vocab:
    """Text ids first, then the image codes. Tags and whole sentences are structure: no answer may hold them."""
    offset = tokenizer.get_vocab_size(with_added_tokens=True)
    named = {name: _id(tokenizer, tag) for name, tag in NAMED_TAGS.items()}
    others = [_id(tokenizer, text) for text in (*OTHER_TAGS, *sentences)]
    structural = tuple(sorted({*named.values(), *others}))
    return Vocab(size=offset + codes, image_offset=offset, **named, structural=structural)


def write_tokenizer(tokenizer: Tokenizer, vocab: Vocab, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab.save(folder)


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None, f"{token!r} was given to the tokenizer as one id"
    return int(found)
