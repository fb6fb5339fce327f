"""`dimoo serve`: flags become settings; the process answers and stops gently on a signal."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cyclopts import App
from serve_fixtures import until

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


def test_the_process_answers_and_stops_gently_on_a_signal(random_checkpoint: Path) -> None:
    """Requests are under way when the signal comes: each is answered, or handed back with 503."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = f"-m dimoo.cli serve {random_checkpoint} --port {port} --device cpu --max-batch 1"
    process = subprocess.Popen([sys.executable, *words.split()], stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{url}/ready"), 120)
        assert httpx.get(url).headers["content-type"].startswith("text/html")
        with ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(
                    httpx.post,
                    f"{url}/v1/images/generations",
                    json={"prompt": "a fox", "size": "128x128", "num_inference_steps": 64, "n": 2, "seed": i},
                    timeout=60,
                )
                for i in range(4)
            ]
            until(lambda: arrived(url) == 8, 30)
            process.send_signal(signal.SIGTERM)
            given = [one.result() for one in asked]
        assert {answer.status_code for answer in given} <= {200, 503}
        assert given[0].status_code == 200 or given[0].json()["error"]["code"] == "shutting_down"
        assert process.wait(60) in (0, -signal.SIGTERM)  # uvicorn raises the signal again once all is answered
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()


def arrived(url: str) -> int:
    """Pictures that wait, are drawn, or have been."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    counted = ("dimoo_queue_depth ", "dimoo_requests_running ", "dimoo_images_total ")
    return sum(int(float(line.split()[1])) for line in lines if line.startswith(counted))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_limits_must_be_positive(ran: list[Any], random_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="waiting"):
        serve(str(random_checkpoint), max_waiting=0)
