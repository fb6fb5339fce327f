# ruff: noqa: F401
"""DiMOO: Lumina-DiMOO on today's stack. Public names, imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "load": "dimoo.pipeline",
    "Pipeline": "dimoo.pipeline",
    "Progress": "dimoo.pipeline",
    "Result": "dimoo.pipeline",
    "TextToImage": "dimoo.tasks.text_to_image",
    "Edit": "dimoo.tasks.edit",
    "Inpaint": "dimoo.tasks.paint",
    "Outpaint": "dimoo.tasks.paint",
    "Understand": "dimoo.tasks.understand",
    "Message": "dimoo.tasks.understand",
    "PictureOptions": "dimoo.tasks.base",
    "TextOptions": "dimoo.tasks.base",
    "MLCache": "dimoo.sampling.policies",
    "RevealAware": "dimoo.sampling.policies",
    "DualCache": "dimoo.sampling.policies",
    "NoCache": "dimoo.sampling.policies",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:  # the same names for type checkers, which cannot see through __getattr__
    from dimoo.pipeline import Pipeline, Progress, Result, load
    from dimoo.sampling.policies import DualCache, MLCache, NoCache, RevealAware
    from dimoo.tasks.base import PictureOptions, TextOptions
    from dimoo.tasks.edit import Edit
    from dimoo.tasks.paint import Inpaint, Outpaint
    from dimoo.tasks.text_to_image import TextToImage
    from dimoo.tasks.understand import Message, Understand


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dimoo' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
