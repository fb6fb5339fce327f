"""What a small model never saw: words of a prompt, and photographs. Hints, never errors.

In: a checkpoint folder, a prompt or a picture. Out: lines for the user, none where the folder says nothing. Only the
folder's `words.json` is read:

    {"domain": "stickers", "words": ["a", "fox", "to", "the", "left", ...]}

`words` are the lower-case words that the model was trained on, `domain` what its pictures are.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dimoo.tokenizers.resize import to_pixels

WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
FLAT_SHARE = 0.6  # of neighbouring pixels alike: 300 pictures of stickers had .67 and more, most photographs .2 to .55
ALIKE = 3  # levels


@dataclass(frozen=True, kw_only=True)
class Known:
    """The words and the domain of a checkpoint."""

    words: frozenset[str]
    domain: str | None = None

    @classmethod
    def load(cls, folder: Path) -> Known | None:
        """None if the folder has no `words.json`. ValueError if it is broken."""
        file = folder / "words.json"
        if not file.is_file():
            return None
        try:
            values = json.loads(file.read_text())
            return cls(words=frozenset(word.lower() for word in values["words"]), domain=values.get("domain"))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is not a list of words as dimoo writes it: {error}") from error


def unknown_words(prompt: str, known: Known) -> dict[str, list[str]]:
    """Words of a prompt that the model never saw, each with up to three near ones that it did."""
    found: dict[str, list[str]] = {}
    for word in WORD.findall(prompt):
        lower = word.lower().strip("'’-")
        if lower in found or any(form in known.words for form in _forms(lower)):
            continue
        found[lower] = difflib.get_close_matches(lower, known.words, n=3, cutoff=0.7)
    return found


def word_hint(prompt: str, known: Known | None) -> str | None:
    """One line about unknown words, or None."""
    unknown = {} if known is None else unknown_words(prompt, known)
    if not unknown:
        return None
    parts = [word + (f" (did you mean {', '.join(near)}?)" if near else "") for word, near in unknown.items()]
    return f"this model never saw: {', '.join(parts)}"


def flat_share(picture: Image.Image) -> float:
    """Share of horizontally neighbouring pixels that are alike, at 128 pixels a side: plain areas against texture."""
    small = to_pixels(picture.resize((128, 128), Image.Resampling.BILINEAR)).astype(np.int16)
    return float((np.abs(np.diff(small, axis=1)).max(axis=-1) <= ALIKE).mean())


def picture_hint(picture: Image.Image, known: Known | None) -> str | None:
    """One line if a model of drawings is given what looks like a photograph."""
    if known is None or known.domain is None or flat_share(picture) >= FLAT_SHARE:
        return None
    return f"this looks like a photograph, and this model knows {known.domain} only: expect little"


def _forms(word: str) -> tuple[str, ...]:
    """The word, and what it may be a form of."""
    forms = [word, word + "s"]
    for ending, instead in (("'s", ""), ("’s", ""), ("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending):
            forms.append(word.removesuffix(ending) + instead)
    return tuple(forms)
