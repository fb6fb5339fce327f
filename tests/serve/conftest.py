"""One server over random weights for all tests that do not need their own settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("openai")

from openai import OpenAI
from serve_fixtures import GatedPipeline, running

import dimoo
from dimoo.pipeline import Pipeline
from dimoo.serve.app import Server


@pytest.fixture(scope="session")
def pipeline(random_checkpoint: Path) -> Pipeline:
    torch.set_num_threads(1)
    return dimoo.load(random_checkpoint, device="cpu")


@pytest.fixture
def gated(pipeline: Pipeline) -> Iterator[GatedPipeline]:
    made = GatedPipeline(pipeline)
    yield made
    made.open()


@pytest.fixture(scope="session")
def server(pipeline: Pipeline) -> Iterator[Server]:
    with running(pipeline) as made:
        yield made


@pytest.fixture(scope="session")
def client(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
