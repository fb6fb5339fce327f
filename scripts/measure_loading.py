"""How much memory grows while a checkpoint loads, against the size of its weights.

    python scripts/measure_loading.py                # writes 2.2 GB of random weights to a temporary folder
    python scripts/measure_loading.py --gigabytes 8 --folder /somewhere/large

The checkpoint is in the authors' layout, bfloat16, in four shards; it is loaded in a fresh process, whose resident
memory is sampled ten times a second (anonymous memory apart from pages of the files, which the system can take back).
The peak may grow by at most 1.15 times the weights. Needs twice the size on disk and once in memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from dimoo.model.checkpoint import INDEX, authors_parts
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer

LIMIT = 1.15

MEASURE = """
import json, re, sys, threading, time
import torch, safetensors.torch
from pathlib import Path
from dimoo.model.checkpoint import load_model

def memory():
    text = Path("/proc/self/status").read_text()
    return {name: 1024 * int(re.search(rf"{name}:\\s+(\\d+)", text)[1]) for name in ("VmRSS", "RssAnon", "RssFile")}

before, peak, done = memory(), memory(), threading.Event()

def watch():
    while not done.is_set():
        for name, value in memory().items():
            peak[name] = max(peak[name], value)
        time.sleep(float(sys.argv[2]))

watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
model = load_model(Path(sys.argv[1]))
seconds = time.perf_counter() - start
done.set()
watcher.join()
weights = sum(value.numel() * value.element_size() for value in model.parameters())
growth = {name: peak[name] - before[name] for name in before}
print(json.dumps({"weights": weights, "seconds": seconds, **growth}))
"""


def write_checkpoint(folder: Path, config: ModelConfig, *, shards: int = 4) -> int:
    """Random weights in the authors' layout, a shard at a time; gives back their bytes."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Transformer(config).named_parameters()}
    parts = [(part, shapes[ours][1:]) for ours, whole in authors_parts(config).items() for part in whole]
    generator = torch.Generator().manual_seed(0)
    table: dict[str, str] = {}
    total = 0
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        tensors = {}
        for part, rest in parts[shard::shards]:
            tensors[part.name] = torch.empty(part.rows, *rest, dtype=torch.bfloat16).uniform_(
                -1, 1, generator=generator
            )
            table[part.name] = file
            total += tensors[part.name].nbytes
        save_file(tensors, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": table}))
    (folder / "config.json").write_text(json.dumps(config.to_authors_json()))
    return total


def measure(folder: Path, *, every: float = 0.1) -> dict[str, float]:
    """Weights, growth of resident memory (VmRSS, and of it RssAnon and RssFile) in bytes, and seconds."""
    command = [sys.executable, "-c", MEASURE, str(folder), str(every)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    values: dict[str, float] = json.loads(out.strip().splitlines()[-1])
    return values


def sized(gigabytes: float) -> ModelConfig:
    """A backbone of the published shape, narrower, with as many layers as the size asks for."""
    base = {"d_model": 2048, "n_heads": 16, "n_kv_heads": 16, "d_ff": 6144, "vocab_size": 134_548}
    empty = ModelConfig(**base, n_layers=0).parameters
    layer = ModelConfig(**base, n_layers=1).parameters - empty
    return ModelConfig(**base, n_layers=max(1, -(-int(gigabytes * 1e9 / 2 - empty) // layer)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.2)
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary checkpoint goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        size = write_checkpoint(Path(folder), sized(options.gigabytes))
        values = measure(Path(folder))
    assert values["weights"] == size, "every weight was loaded"
    ratio = values["VmRSS"] / size
    print(
        f"weights {size / 1e9:.2f} GB, resident memory grew by {values['VmRSS'] / 1e9:.2f} GB ({ratio:.3f} x; "
        f"anonymous {values['RssAnon'] / size:.3f} x, file pages {values['RssFile'] / size:.3f} x) "
        f"in {values['seconds']:.1f} s"
    )
    if ratio > LIMIT:
        sys.exit(f"more than {LIMIT} x the weights")


if __name__ == "__main__":
    main()
