"""One forward pass of a large backbone in eight bits on this machine: seconds and peak memory.

    python scripts/measure_int8.py --size 8b --side 512

Weights are random, made and quantised block by block as `load_model` does with stored ones, so that memory holds eight
bits a weight and one block in bfloat16. The pass is a step of text-to-image, conditional and unconditional page in one.
"""

import argparse
import resource
import time

import torch
from torch import nn

from dimoo.eval.bench import random_cases
from dimoo.model.config import SIZES, ModelConfig
from dimoo.model.quantise import quantise_linear
from dimoo.model.transformer import Transformer
from dimoo.page.batch import Rows, pack


def random_int8(config: ModelConfig, kind: str) -> Transformer:
    """A backbone of uniform random weights, its blocks' matrices quantised as soon as they exist."""
    with torch.device("meta"):
        model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        layer = model.get_submodule(owner)
        value = torch.ones(parameter.shape, dtype=torch.bfloat16)
        if "norm" not in name:
            value.uniform_(-1, 1, generator=generator).mul_(1.5 / config.d_model**0.5)
        setattr(layer, leaf, nn.Parameter(value, requires_grad=False))
        if name.startswith("blocks.") and isinstance(layer, nn.Linear):
            quantise_linear(layer, kind)  # type: ignore[arg-type]
    return model.eval()


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", choices=sorted(SIZES), default="8b")
    arguments.add_argument("--side", type=int, default=512, help="pixels")
    arguments.add_argument("--kind", choices=("int8", "int8_dynamic"), default="int8")
    given = arguments.parse_args()
    config = SIZES[given.size]
    start = time.perf_counter()
    model = random_int8(config, given.kind)
    print(
        f"{config.parameters / 1e9:.2f} G weights made in {time.perf_counter() - start:.0f} s, peak {peak_gb():.1f} GB"
    )
    (case,) = random_cases("t2i", config, given.side)
    ids_T, packing = pack([page.ids for page in case.branches])
    need = Rows.of_pages([page.slots for page in case.branches], packing)
    vocab = case.page.vocab
    with torch.inference_mode():
        start = time.perf_counter()
        hidden_MD = model(ids_T, packing, need=need)
        logits_MV = model.logits(hidden_MD, vocab.image_offset, vocab.size)
        seconds = time.perf_counter() - start
    finite = bool(torch.isfinite(logits_MV).all())
    print(
        f"{given.kind}, {given.side} px, {packing.total} rows: {seconds:.1f} s, logits {tuple(logits_MV.shape)} "
        f"{'finite' if finite else 'NOT finite'}, peak {peak_gb():.1f} GB"
    )


if __name__ == "__main__":
    main()
