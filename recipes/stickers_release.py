"""Put a trained small model into the package: weights, tokenizer, VQ model, known words.

What: copies FOLDER/export (averaged weights in bfloat16, 31 MB) to `src/dimoo/assets/small`, with the VQ model in
float16, the checkpoint's recommendations, and `words.json`, the words that its training texts hold. Judge it before and
after with `dimoo eval stickers`, and commit it only when the judge says that it is better.
Command: `python recipes/stickers_release.py`
Hardware: any; a minute.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import stickers_pretrain as pretrain

from dimoo.hints import WORD
from dimoo.pipeline import SHIPPED
from dimoo.tokenizers.image import vq_model


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, default=pretrain.RUNS / "stickers")
    arguments.add_argument("--into", type=Path, default=SHIPPED)
    given = arguments.parse_args()
    release(given.folder / "export", given.into)


def release(source: Path, target: Path) -> None:
    """Copy a checkpoint folder, with the words of its world beside it."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "vocab.json", "tokenizer.json"):
        shutil.copyfile(source / name, target / name)
    vq_model().from_pretrained(source / "vqvae").half().save_pretrained(target / "vqvae")
    config = json.loads((target / "vqvae" / "config.json").read_text())
    config.pop("_name_or_path", None)  # where it lay on the machine it was trained on
    (target / "vqvae" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for file in target.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    pretrain.DEFAULTS.save(target)
    words = sorted({word for text in pretrain.world_texts(pretrain.WORD_SEEDS) for word in _words(text)})
    (target / "words.json").write_text(json.dumps({"domain": "stickers", "words": words}, indent=0) + "\n")


def _words(text: str) -> list[str]:
    return [word.lower() for word in re.findall(WORD, text)]


if __name__ == "__main__":
    main()
