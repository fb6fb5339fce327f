"""Merge near-identical codes of the picture tokenizer, before any backbone is trained on them.

What: counts the codes of 1,500 pictures of the training stream, keeps the commonest of every group that lies within
`--cosine`, and writes the smaller VQ model. docs/log.md has the table by which .975 was chosen.
Command: `python recipes/stickers_merge.py --vq NEXT/export` (NEXT: folder of the second run of `stickers_vq.py`)
Hardware: any; ten seconds.
Result to expect: about 590 codes of 4,096, -0.4 dB, a judge's ceiling lower by about .006 before the decoder is trained
on (`stickers_vq.py --decoder-only`).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from dimoo.data.stickers.stream import picture
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.train.merge import merge_codes

RUNS = Path.home() / ".cache" / "dimoo" / "runs"
SIDE, BATCH = 128, 50


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--vq", type=Path, required=True)
    arguments.add_argument("--into", type=Path, default=RUNS / "stickers-merged")
    arguments.add_argument("--cosine", type=float, default=0.975)
    arguments.add_argument("--pictures", type=int, default=1500)
    given = arguments.parse_args()
    tokenizer = ImageTokenizer.load_vq(given.vq)
    drawn = [pixels for index in range(given.pictures) if (pixels := picture(index, "train")).shape[:2] == (SIDE, SIDE)]
    counts_K = torch.zeros(tokenizer.codes)
    for at in range(0, len(drawn), BATCH):
        codes = tokenizer.encode_batch(np.stack(drawn[at : at + BATCH])).flatten()
        counts_K += torch.bincount(codes, minlength=tokenizer.codes)
    smaller, _ = merge_codes(tokenizer.vq, counts_K, cosine=given.cosine)
    smaller.save_pretrained(given.into)
    print(f"{tokenizer.codes} codes, {int((counts_K > 0).sum())} in use, {smaller.config.num_vq_embeddings} kept")


if __name__ == "__main__":
    main()
