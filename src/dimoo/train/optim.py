"""Initial weights, the optimizers and the moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.train.config import TrainSettings

STD = 0.02
AS_LARGE_AS_ADAMW = 0.2  # the root mean square of AdamW's steps, which Muon's are scaled to [Liu 2025, section 2.2]


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
    """AdamW with weight decay on matrices only; with `matrices` "muon", Muon for those of the blocks, in `dtype`."""
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
        kind = WideMuon if settings.dtype == "float32" else torch.optim.Muon
        made.append(
            kind(
                blocks,
                lr=settings.learning_rate * settings.muon_scale,
                weight_decay=settings.weight_decay,
                momentum=settings.betas[1],
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return made


class WideMuon(torch.optim.Muon):
    """torch's Muon, its updates made orthogonal in float32. torch does that in bfloat16, which processors without it
    take a minute a step for, where this takes two seconds (the small model, AVX2)."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, rate = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - rate)
                ahead = parameter.grad.lerp(momentum, rate)  # Nesterov's
                update = orthogonal(ahead, group["ns_coefficients"], group["ns_steps"])
                parameter.mul_(1 - lr * group["weight_decay"])
                parameter.add_(update, alpha=-lr * AS_LARGE_AS_ADAMW * math.sqrt(max(parameter.shape)))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """The nearest matrix whose singular values are about one, by Newton and Schulz's iteration of the fifth order:
    X <- a X + (b A + c A^2) X with A = X X^T [Jordan 2024]. Same shape and dtype."""
    a, b, c = coefficients
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    x = short / short.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if short is matrix else x.t()


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
