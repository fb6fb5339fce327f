"""What serving costs: the server over the pipeline, a live preview over none, the page's first load.

    python scripts/measure_serve.py                                   # the shipped model, or random weights
    python scripts/measure_serve.py --checkpoint FOLDER --runs 30

All ways of drawing the same picture take turns in one process, so that what else the machine does falls on all alike:

    pipeline          Pipeline.run: what the others are measured against
    server            POST /v1/images/generations, from the request to the parsed answer
    stream            the same with stream=true and no partial images
    stream, partial   ... and three partial images
    page, blind       the page's own handler, called as a browser does, told to show no preview
    page, live        ... showing its previews (a guess and a map, at most one each 0.12 s)

Printed: medians of wall time and of processor time (all threads, the client's share included), then the two shares
that have a limit: server over pipeline (3 %), live preview over none (5 %). With a chromium and playwright, how long
a browser with an empty profile takes until the page's first form can be used (limit 2 s). Exit code 1 if a limit is
broken by wall time; on a busy machine, look at processor time instead.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import torch

import dimoo
from dimoo.commands.options import Where
from dimoo.commands.session import session
from dimoo.pipeline import Pipeline
from dimoo.serve.app import Server
from dimoo.serve.service import Service
from dimoo.serve.settings import ServeSettings
from dimoo.serve.web import runs as page_runs

PROMPT, SEED = "a red fox", 1
LIMITS = {"server over pipeline": 0.03, "partial images over none": 0.05, "live page over blind page": 0.05}
FIRST_LOAD = 2.0
LOADS = 5


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of one run."""

    wall: float
    processor: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a folder or a hub id; without it the shipped model, or random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, help="without it, the checkpoint's own")
    parser.add_argument("--threads", type=int, help="of torch; without it, torch's own choice")
    parser.add_argument("--no-browser", action="store_true", help="leave out the page's first load")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with ExitStack() as stack:
        pipeline = stack.enter_context(session(Where(checkpoint=options.checkpoint, device=options.device))).pipe
        url = stack.enter_context(running(pipeline))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=600))
        steps = options.steps or pipeline.tools.defaults.steps
        costs = measure(ways(pipeline, http, steps), options.runs)
        report(costs, pipeline, steps)
        broken = [name for name, share in shares(costs).items() if share > LIMITS[name]]
        if not options.no_browser:
            seconds = first_loads(url)
            broken += ["first load"] if seconds and statistics.median(seconds) > FIRST_LOAD else []
    for name in broken:
        print(f"over its limit: {name}")
    return 1 if broken else 0


@contextmanager
def running(pipeline: Pipeline) -> Iterator[str]:
    server = Server(Service(pipeline, ServeSettings()), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)


def ways(pipeline: Pipeline, http: httpx.Client, steps: int) -> dict[str, Callable[[], Any]]:
    """By name, functions that draw the same picture."""
    body = {"prompt": PROMPT, "seed": SEED, "num_inference_steps": steps}
    request = dimoo.TextToImage(prompt=PROMPT, seed=SEED, options=dimoo.PictureOptions(steps=steps))
    page = Page(http, steps)

    def draw(**more: Any) -> None:
        answer = http.post("/v1/images/generations", json=body | more)
        assert answer.status_code == 200, answer.text
        assert "completed" in answer.text if more else answer.json()["data"]

    return {
        "pipeline": lambda: pipeline.run(request),
        "server": draw,
        "stream": lambda: draw(stream=True),
        "stream, partial": lambda: draw(stream=True, partial_images=3),
        "page, blind": lambda: page.draw(live=False),
        "page, live": lambda: page.draw(live=True),
    }


class Page:
    """The page's form for drawing, filled and sent as a browser does it."""

    def __init__(self, http: httpx.Client, steps: int) -> None:
        self.http, self.interval = http, page_runs.INTERVAL
        config = http.get("/config").json()
        parts = {one["id"]: one["props"] for one in config["components"]}
        button = next(place for place, props in parts.items() if props.get("value") == "Draw")
        self.handler = next(one for one in config["dependencies"] if [button, "click"] in one["targets"])
        filled = {"What shall be drawn?": PROMPT, "Seed": SEED, "A new seed each time": False, "Steps": steps}
        self.values = [
            filled.get(parts[place].get("label"), parts[place].get("value")) for place in self.handler["inputs"]
        ]

    def draw(self, *, live: bool) -> None:
        page_runs.INTERVAL = self.interval if live else float("inf")
        session = "measure"
        asked = {"data": self.values, "fn_index": self.handler["id"], "session_hash": session}
        self.http.post("/gradio_api/queue/join", json=asked).raise_for_status()
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as answer:
            for line in answer.iter_lines():
                event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if event.get("msg") == "process_completed":
                    assert event["success"], event
                    return
        raise AssertionError("the page's handler did not end")


def measure(made: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Cost]]:
    """Costs by name. Each round runs all, beginning with another one each time; a first round warms up."""
    costs: dict[str, list[Cost]] = {name: [] for name in made}
    names = list(made)
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            wall, processor = time.perf_counter(), time.process_time()
            made[name]()
            cost = Cost(wall=time.perf_counter() - wall, processor=time.process_time() - processor)
            if number >= 0:
                costs[name].append(cost)
    return costs


def report(costs: dict[str, list[Cost]], pipeline: Pipeline, steps: int) -> None:
    defaults = pipeline.tools.defaults
    print(f"{defaults.name}: {defaults.width}x{defaults.height} in {steps} steps, {len(costs['pipeline'])} runs each")
    for name in costs:
        wall, processor = (1e3 * median(costs, name, kind) for kind in ("wall", "processor"))
        print(f"  {name:<16} {wall:8.1f} ms wall  {processor:8.1f} ms processor")
    by_processor = shares(costs, "processor")
    for name, share in shares(costs).items():
        print(f"{name}: {share:+.1%} wall, {by_processor[name]:+.1%} processor (limit {LIMITS[name]:.0%})")


def shares(costs: dict[str, list[Cost]], kind: str = "wall") -> dict[str, float]:
    """What each costs over its counterpart, as a share of the pipeline's time: medians of the rounds' differences."""
    pairs = (("server", "pipeline"), ("stream, partial", "stream"), ("page, live", "page, blind"))
    base = median(costs, "pipeline", kind)
    found = {}
    for name, (more, less) in zip(LIMITS, pairs, strict=True):
        differences = [getattr(a, kind) - getattr(b, kind) for a, b in zip(costs[more], costs[less], strict=True)]
        found[name] = statistics.median(differences) / base
    return found


def median(costs: dict[str, list[Cost]], name: str, kind: str) -> float:
    return statistics.median(getattr(cost, kind) for cost in costs[name])


def first_loads(url: str) -> list[float]:
    """Seconds from the address to a form that can be used, each with an empty profile; nothing without a browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        chromium = None
    if chromium is None:
        print("first load: no chromium and playwright to measure it with")
        return []
    seconds = []
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        for _ in range(LOADS):
            with tempfile.TemporaryDirectory() as profile:
                browser = playwright.chromium
                context = browser.launch_persistent_context(profile, executable_path=chromium, args=flags)
                page = context.new_page()
                start = time.perf_counter()
                page.goto(url, wait_until="commit")
                page.get_by_label("What shall be drawn?").wait_for()
                seconds.append(time.perf_counter() - start)
                context.close()
    listed = ", ".join(f"{one:.2f}" for one in seconds)
    print(f"first load of the page: {statistics.median(seconds):.2f} s, median of {listed} (limit {FIRST_LOAD:g} s)")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
