"""A grown model computes what the smaller one did, and every new part learns."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.page.batch import pack
from dimoo.train.grow import grow
from dimoo.train.optim import new_model

SMALL = ModelConfig(d_model=32, n_layers=3, n_heads=2, n_kv_heads=2, d_ff=48, vocab_size=40)
LARGE = dataclasses.replace(SMALL, n_layers=5, d_ff=80)


def models(config: ModelConfig = LARGE) -> tuple[Transformer, Transformer]:
    small = new_model(SMALL, torch.Generator().manual_seed(1))
    return small, grow(small, config, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("layers, inner", [(3, 48), (3, 80), (4, 48), (5, 80), (7, 64)])
def test_the_same_logits(layers: int, inner: int) -> None:
    # Broken to try it: the up half copied over the gate half; a new layer that keeps its output matrices.
    small, grown = models(dataclasses.replace(SMALL, n_layers=layers, d_ff=inner))
    ids_T, packing = pack([torch.arange(9), torch.arange(5, 30)])
    with torch.no_grad():
        torch.testing.assert_close(grown(ids_T, packing), small(ids_T, packing), atol=1e-5, rtol=1e-4)
    assert len(grown.blocks) == layers and grown.config.d_ff == inner


def test_new_parts_learn() -> None:
    _, grown = models()
    ids_T, packing = pack([torch.arange(20)])
    grown.logits(grown(ids_T, packing), 0, 40).logsumexp(-1).sum().backward()
    for block in grown.blocks:
        down = block.down.weight.grad
        assert down is not None and bool((down.abs().sum(0) > 0).all()), "every inner unit's output gets a gradient"


def test_only_layers_and_inner_width_grow() -> None:
    for config in (dataclasses.replace(LARGE, n_layers=2), dataclasses.replace(LARGE, d_model=64)):
        with pytest.raises(ValueError, match="grows in n_layers and d_ff only"):
            models(config)
