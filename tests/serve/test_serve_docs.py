"""The curl commands of docs/serve.md, run as they stand, from top to bottom, against a server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dimoo.serve.app import Server

DOCS = Path(__file__).parents[2] / "docs" / "serve.md"
HERE = "http://127.0.0.1:8000"


def examples() -> dict[str, str]:
    """Commands by the comment that stands before them."""
    block = re.search(r"## With curl.*?```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block, "the documentation shows how to use curl"
    parts = [part.partition("\n") for part in block[1].strip().split("\n\n")]
    return {title.removeprefix("# "): commands for title, _, commands in parts}


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_every_example_works(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    for title, commands in examples().items():
        assert HERE in commands
        script = commands.replace(HERE, server.url).replace("python3", sys.executable)
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, (title, ran.stderr)
        assert '"error"' not in ran.stdout, (title, ran.stdout[:500])
        assert ran.stdout.strip() or "fox.png" in commands, title
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")


def test_every_endpoint_has_an_example(server: Server) -> None:
    import httpx

    shown = "\n".join(examples().values())
    for path in httpx.get(f"{server.url}/openapi.json").json()["paths"]:
        assert path.partition("/{")[0] in shown, path
