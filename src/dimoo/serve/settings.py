"""What a server allows and demands: frozen settings, filled by `dimoo serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image


class ContentCheck(Protocol):
    """Asked twice for each request, first with its words, then with each drawn picture. A reason refuses it."""

    def __call__(self, prompt: str, picture: Image.Image | None) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one request may ask for, and how many may wait."""

    body_bytes: int = 50 * 1024 * 1024
    picture_pixels: int = 32_000_000  # of all input pictures of a request together, checked before decoding
    pictures: int = 16
    prompt_characters: int = 8_000  # of all words of a request together
    messages: int = 64
    steps: int = 256
    output_pixels: int | None = None  # None: four times the checkpoint's own picture
    answer_tokens: int | None = None  # None: the checkpoint's own answer
    n: int = 10
    seconds: float = 600.0  # from arrival to answer, waiting included
    waiting: int = 64
    batch: int | None = None  # None: 8 on an accelerator, 4 on a CPU
    batch_ids: int = 65_536  # ids of all pages of a batch, guidance included

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value <= 0:
                raise ValueError(f"limit {name} must be positive, got {value}")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """`keys`: bearer keys, none means open. `remote_hosts`: hosts whose pictures may be fetched. `hosts`: names by
    which the server may be asked, none means any. `aliases`: other names by which clients may call the model. `grace`:
    seconds that a shutdown waits for running requests."""

    limits: Limits = field(default_factory=Limits)
    keys: tuple[str, ...] = field(default=(), repr=False)
    remote_hosts: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    check: ContentCheck | None = None
    metadata: bool = True
    log_prompts: bool = False
    web: bool = True
    grace: float = 60.0

    def __post_init__(self) -> None:
        if not all(self.keys):
            raise ValueError("an empty key would let everybody in; leave --api-key out instead")
        if self.grace <= 0:
            raise ValueError(f"grace must be positive, got {self.grace}")
