"""A team of two processes computes what one process does."""

import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).parent / "team_run.py"


def run(folder: Path, members: int) -> dict:
    folder.mkdir()
    command = [sys.executable, str(SCRIPT), str(folder)]
    if members > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={members}"]
        command = [*torchrun, *command[1:]]
    subprocess.run(command, check=True, timeout=300)
    return torch.load(folder / "state.pt", weights_only=True)


def test_two_members_take_the_same_steps_as_one(tmp_path: Path) -> None:
    alone, together = run(tmp_path / "one", 1), run(tmp_path / "two", 2)
    assert alone["step"] == together["step"] == 4
    assert alone["stream"] == together["stream"]
    for name, value in alone["model"].items():
        torch.testing.assert_close(
            value, together["model"][name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n} {m}"
        )
