"""Text to ids and back, through the checkpoint's own tokenizer files.

In: a checkpoint folder with `tokenizer.json` (read by `tokenizers`) or other files that transformers' AutoTokenizer
reads, never with remote code. Out: a `TextTokenizer` that knows where a page's tags are single ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dimoo.vocab import AUTHORS_TOKENS, Vocab

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TextTokenizer:
    """`encode` gives ids without adding any, `decode` gives text without special tokens."""

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    token_id: Callable[[str], int | None]

    @classmethod
    def load(cls, folder: Path) -> TextTokenizer:
        """ValueError if the folder has no tokenizer files: such a checkpoint can be compared, not prompted."""
        if (folder / "tokenizer.json").is_file():
            return cls.fast(folder / "tokenizer.json")
        if (folder / "tokenizer_config.json").is_file():
            return cls.slow(folder)
        raise ValueError(
            f"{folder} has no tokenizer files (tokenizer.json or tokenizer_config.json): it takes ids only"
        )

    @classmethod
    def fast(cls, file: Path) -> TextTokenizer:
        """From `tokenizer.json`, by tokenizers."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises plain Exception for a broken file
            raise ValueError(f"{file} is no readable tokenizer: {error}") from error

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
            return ids

        def decode(ids: Sequence[int]) -> str:
            text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
            return text

        return cls(encode, decode, tokenizer.token_to_id)

    @classmethod
    def slow(cls, folder: Path) -> TextTokenizer:
        """From whatever transformers' AutoTokenizer reads, never remote code."""
        from transformers import AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(f"{folder}: the tokenizer cannot be read: {str(error).splitlines()[0]}") from error

        def token_id(token: str) -> int | None:
            found = tokenizer.convert_tokens_to_ids(token)
            return None if found is None or found == tokenizer.unk_token_id else int(found)

        return cls(
            lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
            lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
            token_id,
        )

    def check(self, vocab: Vocab) -> list[str]:
        """Where the tokenizer's special tokens disagree with the vocabulary, one line each; empty if nowhere."""
        wrong = []
        for name, token in AUTHORS_TOKENS.items():
            found = self.token_id(token)
            if found is not None and found != getattr(vocab, name):
                wrong.append(f"{name}: the tokenizer says {token} = {found}, the vocabulary {getattr(vocab, name)}")
        if len(self.encode("</user>")) > 1 and self.encode("a</user>")[-1:] != self.encode("</user>")[-1:]:
            wrong.append("</user> does not end in the same id everywhere")
        return wrong

    def encode_within(self, before: str, words: str, after: str, limit: int) -> list[int]:
        """Ids of before + words + after, the words cut so that at most `limit` ids result; a tag is never cut.

        Text is encoded as one string, as the authors do. A cut is logged as a warning that says how much was lost.
        """
        ids = self.encode(before + words + after)
        if len(ids) <= limit:
            return ids
        if len(self.encode(before + after)) > limit:
            raise ValueError(f"the prompt's fixed part alone needs more than {limit} ids")
        low, high = 0, len(words)  # the longest prefix of the words that fits
        while low < high:
            middle = (low + high + 1) // 2
            if len(self.encode(before + words[:middle] + after)) <= limit:
                low = middle
            else:
                high = middle - 1
        log.warning("the prompt is too long: %d of its %d characters were cut", len(words) - low, len(words))
        return self.encode(before + words[:low] + after)
