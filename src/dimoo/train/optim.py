"""Initial weights, the optimizers and the moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.train.config import TrainSettings

STD = 0.02


def new_model(config: ModelConfig, generator: torch.Generator) -> Transformer:
    """A fresh backbone in float32: every matrix normal with deviation 0.02, norms one; the two projections that write
    to the residual stream (`attention_out`, `down`) by a further 1 / sqrt(2 n_layers), so that the stream's variance
    does not grow with depth [Radford 2019, section 2.3]."""
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    residual = STD / math.sqrt(2 * config.n_layers)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            nn.init.ones_(parameter)
            continue
        writes = name.endswith(("attention_out.weight", "down.weight"))
        nn.init.normal_(parameter, std=residual if writes else STD, generator=generator)
    return model


def make_optimizers(model: nn.Module, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """AdamW with weight decay on matrices only; with `matrices` "muon", Muon for those of the blocks."""
    blocks: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        of_block = parameter.ndim >= 2 and name.startswith("blocks.")
        (blocks if of_block else matrices if parameter.ndim >= 2 else vectors).append(parameter)
    muon = settings.matrices == "muon"
    groups = [
        {"params": matrices if muon else blocks + matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
    ]
    if muon:
        made.append(
            torch.optim.Muon(
                blocks,
                lr=settings.learning_rate * settings.muon_scale,
                weight_decay=settings.weight_decay,
                momentum=settings.betas[1],
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return made


class Average:
    """An exponential moving average of a model's weights, held in a model of its own."""

    def __init__(self, model: Transformer, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def follow(self, model: Transformer, step: int) -> None:
        """Move towards `model`; early on by more, so that the first weights are soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), [p.data for p in model.parameters()], 1 - decay)
