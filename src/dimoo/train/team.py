"""Training in several processes, which on a CPU beats several threads of one: small kernels don't share well.

In: processes that `torchrun --nproc-per-node N` started, or a single one. All of them draw the same batches and hide
the same positions; process k takes every N-th page, and gradients are summed, so that N processes compute what one
would. The first process writes, measures and decides when to stop.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process among the others."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Self:
        """The team that `torchrun` announces in the environment; a team of one without it."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo")
            atexit.register(dist.destroy_process_group)  # its threads, left running, can abort a process that ends
        return cls(rank=dist.get_rank(), size=dist.get_world_size())

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[nn.Parameter], *, pages: int, stop: bool) -> bool:
        """Sum the gradients over the team, in place; whether any member wants to stop. RuntimeError if the members
        did not draw the same batch (`pages` of it): shards that appear while a team trains can be the cause."""
        if self.size == 1:
            return stop
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients] + [torch.tensor([float(pages), float(stop)])])
        dist.all_reduce(flat)
        if float(flat[-2]) != pages * self.size:
            raise RuntimeError(f"{pages} pages here, {float(flat[-2]):.0f} in a team of {self.size}: batches differ")
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        return float(flat[-1]) > 0
