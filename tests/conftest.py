"""Fixtures shared by all tests: a checkpoint with small random weights, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from dimoo.model.random import make_random_checkpoint

settings.register_profile("shared machine", deadline=None)  # other work must not fail a property
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything a checkpoint has; runs every task in a moment. Not to be written to."""
    yield make_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))
