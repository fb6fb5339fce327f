"""A larger model that starts as the smaller one: more layers, and a wider MLP in each.

In: a trained model and larger sizes. Out: a model that computes the same and has room to learn (Net2Net
[Chen 2016, arXiv 1511.05641], with the new parts' outputs at zero as in ReZero-like starts): new inner units write
nothing yet, new layers add nothing yet, and both receive gradients from the first step.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Block, Transformer
from dimoo.train.optim import new_model


def grow(model: Transformer, config: ModelConfig, generator: torch.Generator) -> Transformer:
    """A model of `config` (float32) with the logits of `model`. Layers are spread evenly among the old ones.

    ValueError unless `config` differs by `n_layers` and `d_ff` only, each at least as large as before.
    """
    old = model.config
    alike = dataclasses.replace(config, n_layers=old.n_layers, d_ff=old.d_ff)
    if alike != old or config.n_layers < old.n_layers or config.d_ff < old.d_ff:
        raise ValueError(f"a model grows in n_layers and d_ff only: from {old} to {config}")
    grown = new_model(config, generator)
    grown.load_state_dict(
        {name: value.float() for name, value in model.state_dict().items() if not name.startswith("blocks.")},
        strict=False,
    )
    # old layer i goes to place (i + 1) * new // old - 1: the last stays last
    places = {(i + 1) * config.n_layers // old.n_layers - 1: i for i in range(old.n_layers)}
    with torch.no_grad():
        for place, block in enumerate(grown.blocks):
            assert isinstance(block, Block)
            if place in places:
                source = model.blocks[places[place]]
                assert isinstance(source, Block)
                _copy(source, block, old.d_ff)
            else:
                nn.init.zeros_(block.attention_out.weight)
                nn.init.zeros_(block.down.weight)
    return grown


def _copy(source: Block, block: Block, inner: int) -> None:
    """The old block's weights into a block of wider inner size, whose new units write nothing."""
    for name in ("attention_norm", "qkv", "attention_out", "mlp_norm"):
        getattr(block, name).weight.copy_(getattr(source, name).weight)
    halves: list[Tensor] = list(block.gate_up.weight.chunk(2))
    for half, old_half in zip(halves, source.gate_up.weight.chunk(2), strict=True):
        half[:inner].copy_(old_half)
    block.down.weight.zero_()
    block.down.weight[:, :inner].copy_(source.down.weight)
