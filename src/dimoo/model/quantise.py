"""Weights of the blocks in eight bits, by torchao: half the memory of bfloat16, and on some machines faster.

    int8           weights in int8, one scale a row; products in the dtype of the rest
    int8_dynamic   activations as well, one scale a row at every product

Embedding, head and norms stay as they are: they are a small part of a large model and the most sensitive.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal, get_args

from torch import Tensor, nn

Quantisation = Literal["int8", "int8_dynamic"]


def quantise_linear(linear: nn.Linear, kind: Quantisation) -> None:
    """Replace the weight of a linear layer by its quantised form, in place. ValueError for another kind or without
    torchao."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torchao").setLevel(logging.ERROR)
        try:
            from torchao.quantization import (
                Int8DynamicActivationInt8WeightConfig,
                Int8WeightOnlyConfig,
                quantize_,
            )
        except ImportError as error:
            raise ValueError("eight-bit weights need torchao: pip install 'dimoo[quant]'") from error
        configs: dict[str, Any] = {
            "int8": Int8WeightOnlyConfig,
            "int8_dynamic": Int8DynamicActivationInt8WeightConfig,
        }
        if kind not in configs:
            raise ValueError(f"quantisation {kind!r} is not one of {', '.join(get_args(Quantisation))}")
        quantize_(linear, configs[kind](version=2))


def is_quantised(linear: nn.Linear) -> bool:
    """Whether the weight is torchao's, whose rows can't be taken apart."""
    return quantisation_of(linear.weight) is not None


def quantisation_of(weight: Tensor) -> Quantisation | None:
    """How a weight was quantised; None if it was not."""
    stored: Any = weight.data
    if not type(stored).__module__.startswith("torchao"):
        return None
    return "int8" if stored.act_quant_kwargs is None else "int8_dynamic"
