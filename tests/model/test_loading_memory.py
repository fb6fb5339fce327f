"""Memory while a checkpoint loads, in a fresh process: a small version of scripts/measure_loading.py.

The script holds 2 GB to 1.15 times the weights. Here 280 MB may take 250 MB more: about 150 MB are needed whatever the
size (libraries first used, pieces being checked). Broken to try it: tensors read whole (CHUNK = 1 << 40) take 420 MB.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from engine_fixtures import config

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_loading.py"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_memory_grows_by_little_more_than_the_weights(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("measure_loading", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    sizes = config(d_model=512, n_layers=1, n_heads=8, n_kv_heads=8, d_ff=512, vocab_size=134_548)
    size = script.write_checkpoint(tmp_path, sizes, shards=2)
    values = script.measure(tmp_path, every=0.01)
    assert values["weights"] == size > 2.7e8
    assert size <= values["VmRSS"] < size + 2.5e8
