"""Fine-tune the small model: every task, and more of what the judge finds weak, with a falling learning rate.

What: starts from the averaged weights that `stickers_pretrain.py` exported, on its shards, and lets the learning rate
fall linearly to nothing, which is where a constant rate's noise goes.
Command: `python recipes/stickers_sft.py --steps 4000 --more text_to_image:caption=2 understand:count=1.5`
Hardware: two CPU cores with bf16 (Zen 4), 40 to 50 pages a second: 4,000 steps of 46 pages take an hour.
Score to expect: a few points above the pre-trained model's; the model card has the numbers.
"""

import argparse
import logging
import shutil
from pathlib import Path

import torch
from stickers_pretrain import RUNS, run_training

from dimoo.data.examples import ExampleSettings
from dimoo.data.loader import LoaderSettings
from dimoo.data.mixture import ALL, Mixture
from dimoo.model.checkpoint import load_config
from dimoo.train.config import TrainSettings


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", type=Path, default=RUNS / "stickers", help="folder of the pre-training")
    arguments.add_argument("--folder", type=Path, default=RUNS / "stickers-sft")
    arguments.add_argument(
        "--more", nargs="*", default=[], help="TASK:KIND=FACTOR, on the weights of the mixture 'all'"
    )
    arguments.add_argument("--steps", type=int, default=4000)
    arguments.add_argument("--minutes", type=float, default=None, help="of this sitting; run again to go on")
    arguments.add_argument("--learning-rate", type=float, default=6e-4)
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(given.source / "base", given.folder / "base", dirs_exist_ok=True)
    for part in ("shards", "held-out"):
        if not (given.folder / part).exists():
            (given.folder / part).symlink_to((given.source / part).resolve())
    config = load_config(given.source / "export")
    run_training(
        given.folder,
        TrainSettings(steps=given.steps, minutes=given.minutes, learning_rate=given.learning_rate, decay="linear"),
        mixture=weighted(ALL, given.more),
        width=config.d_model,
        layers=config.n_layers,
        inner=config.d_ff,
        loader=LoaderSettings(),
        examples=ExampleSettings(),
        tensorboard=False,
        start_from=given.source / "export",
    )


def weighted(mixture: Mixture, more: list[str]) -> Mixture:
    """The mixture with some weights multiplied. ValueError for a kind that it does not have."""
    changed = dict(mixture)
    for one in more:
        name, factor = one.split("=")
        task, _, kind = name.partition(":")
        if (task, kind) not in changed:
            raise ValueError(f"{name!r} is not one of {', '.join(f'{t}:{k}' for t, k in mixture)}")
        changed[task, kind] *= float(factor)
    return changed


if __name__ == "__main__":
    main()
