"""`dimoo serve`: flags become settings; the process answers and stops gently on a signal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from dimoo.cli import main
from dimoo.serve.app import Server
from dimoo.serve.command import find_check, serve


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The servers that would have run."""
    seen: list[Any] = []
    monkeypatch.setattr(Server, "run", lambda self: seen.append(self))
    level = logging.getLogger("dimoo").level
    yield seen
    logging.getLogger("dimoo").setLevel(level)


def test_flags_become_settings(ran: list[Any], random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIMOO_API_KEYS", "two, three,")
    app = App()
    app.command(serve)
    words = f"serve {random_checkpoint} --api-key first --port 8111 --max-batch 3 --no-web --no-metadata --device cpu"
    app([*words.split(), "--check", "os.path:join", "--alias", "gpt-image-2"], result_action="return_value")
    settings = ran[0].service.settings
    assert settings.keys == ("first", "two", "three")
    assert "first" not in repr(settings)
    assert (settings.limits.batch, settings.web, settings.metadata) == (3, False, False)
    assert settings.aliases == ("gpt-image-2",)
    assert (ran[0].config.host, ran[0].config.port) == ("127.0.0.1", 8111)
    ran[0].service.expect_model("gpt-image-2")


def test_help_offers_no_flags_that_empty_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    main(["serve", "--help"])
    shown = capsys.readouterr().out
    assert "--api-key" in shown
    assert "--empty" not in shown
    assert "()" not in shown


@pytest.mark.parametrize("place", ["nothing", "os.path", "os.path:nothing", "no.such.module:f", "os:sep"])
def test_a_check_that_is_none_is_an_error(place: str) -> None:
    with pytest.raises(ValueError, match="--check"):
        find_check(place)


def test_limits_must_be_positive(ran: list[Any], random_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="waiting"):
        serve(str(random_checkpoint), max_waiting=0)
