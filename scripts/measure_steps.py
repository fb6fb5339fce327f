"""What one step costs: ten per cent of the rows against all of them, and all of them against their matrix products.

    python scripts/measure_steps.py                                    # the shipped model, then width 1024
    python scripts/measure_steps.py --dtype bfloat16 --threads 2

A step is a guided one of text-to-image (two pages packed), everything masked: the shipped model at 128 x 128 pixels,
and random weights of width 1024 and 12 layers at 512 x 512. All variants take turns, so that what else the machine
does falls on all alike; medians are printed.

    full        every row, keys and values stored
    partial     a tenth of the rows of each page (to the nearest), against the stored keys and values
    products    the matrix products of a full step alone: same shapes, same dtype, nothing between them
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from dimoo.eval.bench import random_cases, random_model
from dimoo.model.cache import Cache
from dimoo.model.config import SIZES
from dimoo.model.transformer import Transformer, product
from dimoo.page.batch import Rows, pack
from dimoo.pipeline import load
from dimoo.sampling.guidance import Guided
from dimoo.tasks.text_to_image import TextToImage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, help="of torch; without it, torch's own choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    pipe = load(dtype=dtype)
    shipped = pipe.prepare(TextToImage(prompt="a 3d owl above a flat key, on a blue background")).guided
    report("shipped model, 128 px", pipe.model, shipped, options.runs)
    config = SIZES["medium"]
    report("width 1024, 512 px", random_model(config, dtype), random_cases("t2i", config, 512)[0], options.runs)


@torch.inference_mode()
def report(name: str, model: Transformer, guided: Guided, runs: int) -> None:
    """Medians of the three variants, and the two shares."""
    pages = [page.hide() for page in guided.branches]
    ids_T, packing = pack([page.ids for page in pages])
    need = Rows.of_pages([page.slots for page in pages], packing)
    tenth = Rows.of_pages([torch.arange(length)[5::10] for length in packing.lengths], packing)
    cache = Cache()
    vocab = guided.page.vocab
    products = matrix_products(model, packing.total, len(need), vocab.codes)

    def full() -> Tensor:
        return model.logits(model(ids_T, packing, need=need, cache=cache), vocab.image_offset, vocab.size)

    def partial() -> Tensor:
        hidden_MD = model(ids_T, packing, rows=tenth, need=tenth, cache=cache)
        return model.logits(hidden_MD, vocab.image_offset, vocab.size)

    medians = take_turns({"full": full, "partial": partial, "products": products}, runs)
    print(f"{name}, {model.dtype}: {packing.total} rows, {len(tenth)} of them in a partial step")
    for variant, seconds in medians.items():
        print(f"  {variant:9} {1000 * seconds:9.2f} ms")
    print(f"  a partial step costs {medians['partial'] / medians['full']:.1%} of a full one")
    print(f"  a full step reaches {medians['products'] / medians['full']:.1%} of its products' rate")


def matrix_products(model: Transformer, rows: int, needed: int, codes: int) -> Callable[[], None]:
    """The products of one full step, the last block's queries, output and MLP for the needed rows only."""
    generator = torch.Generator().manual_seed(0)

    def input_of(count: int, width: int) -> Tensor:
        return torch.randn(count, width, generator=generator).to(model.dtype)

    config, last = model.config, len(model.blocks) - 1
    split = config.n_heads * config.head_dim
    plan: list[tuple[Tensor, Tensor]] = []
    wide, inner = input_of(rows, config.d_model), input_of(rows, config.d_ff)
    for layer, block in enumerate(model.blocks):
        count = needed if layer == last else rows
        qkv = block.qkv.weight
        plan += [(wide, qkv)] if layer < last else [(wide[:count], qkv[:split]), (wide, qkv[split:])]
        plan += [(wide[:count], block.attention_out.weight), (wide[:count], block.gate_up.weight)]
        plan.append((inner[:count], block.down.weight))
    plan.append((wide[:needed], model.head_weight[:codes]))

    def run() -> None:
        for x, weight in plan:
            product(x, weight)

    return run


def take_turns(variants: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each, going round; the first two rounds are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(runs + 2):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if turn > 1:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
