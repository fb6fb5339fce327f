"""Mix two trained small models: the mean of their weights (model soups, Wortsman et al. 2022).

What: training that goes on from FIRST with another mixture of tasks gains there and loses elsewhere; between the two
lie weights that keep most of both. Judge a few shares with `dimoo eval stickers`.
Command: `python recipes/stickers_mix.py FIRST SECOND --share 0.3 --into FOLDER/export`, both of one shape and
tokenizer; then `stickers_release.py --folder FOLDER`
Hardware: any; seconds.
"""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("first", type=Path)
    arguments.add_argument("second", type=Path)
    arguments.add_argument("--share", type=float, default=0.3, help="of the second, 0 to 1")
    arguments.add_argument("--into", type=Path, required=True)
    given = arguments.parse_args()
    mix(given.first, given.second, given.share, given.into)


def mix(first: Path, second: Path, share: float, into: Path) -> None:
    """A copy of the folder `first` whose weights are (1 - share) first + share second, in the dtype of `first`."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0..1, got {share}")
    ours, theirs = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise ValueError(f"{first} and {second} are not of one shape")
    shutil.copytree(first, into, ignore=shutil.ignore_patterns("model.safetensors"), dirs_exist_ok=True)
    mixed = {
        name: ((1 - share) * value.float() + share * theirs[name].float()).to(value.dtype)
        for name, value in ours.items()
    }
    save_file(mixed, into / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
