"""Train the judge's recogniser of stickers.

What: 0.6 M parameters that name concept, style and size in each of nine places; trained on scenes and on every drawing
alone, as drawn and after the round trip of a tokenizer. Prints its accuracy on real scenes and on round trips: the
ceiling of every score of the judge. With `--steps 0` it only measures.
Command: `python recipes/stickers_recogniser.py --vq src/dimoo/assets/small/vqvae --out judge.safetensors`, and with
`--begin src/dimoo/assets/judge/recogniser.safetensors --learning-rate 1e-3 --steps 1400` to go on
Hardware and hours: one CPU core with bf16 (Zen 4), ten minutes, two of them for the pool.
Score to expect: stickers with concept and style right .99 on real scenes, .98 on round trips.
"""

import argparse
import functools
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from diffusers import VQModel

from dimoo.data.stickers import CORE, STYLES, Catalogue, draw
from dimoo.data.stickers.scenes import every_drawing
from dimoo.eval.recogniser import Recogniser, background
from dimoo.train.recogniser import (
    RecogniserTraining,
    draw_scenes,
    make_pool,
    measure_accuracy,
    train_recogniser,
)
from dimoo.train.vq_model import round_trip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True, help="where the weights go")
    arguments.add_argument("--begin", type=Path, default=None, help="weights to go on from")
    arguments.add_argument("--vq", type=Path, required=True, help="tokenizer for round trips")
    arguments.add_argument("--steps", type=int, default=RecogniserTraining.steps)
    arguments.add_argument("--batch", type=int, default=RecogniserTraining.batch)
    arguments.add_argument("--learning-rate", type=float, default=RecogniserTraining.learning_rate)
    arguments.add_argument("--pool", type=int, default=5000, help="scenes to train on")
    arguments.add_argument("--each", type=int, default=5, help="times that every drawing stands alone in it, by size")
    arguments.add_argument("--seed", type=int, default=RecogniserTraining.seed)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--scenes", type=int, default=1000, help="scenes to measure on, of each split")
    given = arguments.parse_args()
    if given.begin == given.out:
        arguments.error(f"--out {given.out} would replace what --begin starts from")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    render = functools.partial(draw, catalogue=Catalogue.load())
    trip = functools.partial(round_trip, VQModel.from_pretrained(given.vq).eval())
    begin = Recogniser.load(given.begin) if given.begin else None
    if given.steps:
        run = RecogniserTraining(
            steps=given.steps, batch=given.batch, learning_rate=given.learning_rate, seed=given.seed
        )
        names = {"concepts": tuple(CORE), "styles": STYLES}
        pool = make_pool(given.pool, render, trip, each=given.each, **names)
        logging.info("%d pictures to train on", len(pool.labels))
        train_recogniser(run, pool, **names, begin=begin).save(given.out)
    judge = Recogniser.load(given.out)
    measured = {split: draw_scenes(10_000_000, given.scenes, split=split) for split in ("train", "eval")}
    measured["every drawing"] = every_drawing(np.random.default_rng(0))
    for split, scenes in measured.items():
        pictures = np.stack([render(scene) for scene in scenes])
        for name, seen in (("real", pictures), ("round trip", trip(pictures))):
            backgrounds = np.mean([background(p) == s.background for p, s in zip(seen, scenes, strict=True)])
            accuracy = asdict(measure_accuracy(judge, seen, scenes))
            print(
                split, name, *(f"{key} {value:.4f}" for key, value in accuracy.items()), f"background {backgrounds:.4f}"
            )


if __name__ == "__main__":
    main()
