"""Load on a server in this process: many clients, mixed tasks and sizes; every answer compared with the one made alone.

    python scripts/load_serve.py [--checkpoint FOLDER] [--clients 32] [--requests 200]

Prints, for a server that fills one request at a time and for one that batches: requests per second, p50 and p95,
wrong and lost answers, refusals (429, sent again after Retry-After), the longest wait, and how memory grew after the
first 50. Exit code 1 if anything is wrong. Without a checkpoint it runs on random weights. Stops by itself. What the
server adds to a picture's time is another matter: measure_serve.py.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
from PIL import Image

import dimoo
from dimoo.model.random import make_random_checkpoint
from dimoo.pipeline import Pipeline
from dimoo.serve.app import Server
from dimoo.serve.pictures import encode_picture, normalise_mask, to_data_url
from dimoo.serve.service import Service
from dimoo.serve.settings import Limits, ServeSettings
from dimoo.tasks.edit import Edit

GROWTH = 1.05  # memory at the end over memory after the first 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A request as HTTP and as the package's own, and its right answer."""

    path: str
    arguments: dict[str, Any]
    request: Any
    right: str | bytes


@dataclass(kw_only=True)
class Tally:
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0
    refused: int = 0
    early_memory: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=24, help="length of the queue")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        where = options.checkpoint or make_random_checkpoint(Path(folder))
        pipeline = dimoo.load(where, device="cpu")
        cases = make_cases(pipeline, options.requests)
        failed = 0
        rates = {}
        for batch in (1, 4):
            tally, rate = load(pipeline, cases, clients=options.clients, batch=batch, waiting=options.waiting)
            rates[batch] = rate
            failed += report(tally, rate, batch)
        print(f"throughput with batches over one at a time: {rates[4] / rates[1]:.2f}")
    return 1 if failed else 0


def make_cases(pipeline: Pipeline, number: int) -> list[Case]:
    """Requests of four tasks and several sizes, each with its own seed; the answers made alone, one after another."""
    side = pipeline.tools.defaults.width
    half, factor = side // 2 or side, pipeline.tools.image.factor
    source = Image.effect_noise((side, side), 90).convert("RGB")
    mask = Image.new("RGBA", (side, side), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, half, half))
    data, white = encode_picture(source), normalise_mask(mask)
    masked = io.BytesIO()
    mask.save(masked, "PNG")
    sizes = itertools.cycle([(side, side), (half, side), (side, half), (side + factor, half)])
    cases = []
    start = time.perf_counter()
    for seed in range(number):
        words = f"a fox, number {seed}"
        height, width = next(sizes)
        request: Any
        match seed % 4:
            case 0 | 1:
                request = dimoo.TextToImage(prompt=words, height=height, width=width, seed=seed)
                body = {"prompt": words, "size": f"{width}x{height}", "seed": seed}
                path, arguments = "images/generations", {"json": body}
            case 2:
                inpaint = seed % 8 == 2
                request = (
                    dimoo.Inpaint(picture=source, mask=white, prompt=words, seed=seed)
                    if inpaint
                    else Edit(picture=source, prompt=words, seed=seed)
                )
                files: dict[str, Any] = {"image": data, "prompt": (None, words), "seed": (None, str(seed))}
                files |= {"mask": masked.getvalue()} if inpaint else {}
                path, arguments = "images/edits", {"files": files}
            case _:
                pictures = (source,) * (seed % 8 // 4)
                request = dimoo.Understand(question=words, pictures=pictures, seed=seed)
                parts: list[Any] = [{"type": "text", "text": words}]
                parts += [{"type": "image_url", "image_url": {"url": to_data_url(data)}} for _ in pictures]
                body = {"messages": [{"role": "user", "content": parts}], "seed": seed}
                path, arguments = "chat/completions", {"json": body}
        result = pipeline.run(request)
        right = result.text if result.picture is None else result.picture.tobytes()
        assert right is not None, "a result has a picture or words"
        cases.append(Case(path=path, arguments=arguments, request=request, right=right))
    print(f"alone, without a server: {number / (time.perf_counter() - start):.1f} requests/s")
    return cases


def load(pipeline: Pipeline, cases: list[Case], *, clients: int, batch: int, waiting: int) -> tuple[Tally, float]:
    server = Server(
        Service(pipeline, ServeSettings(web=False, limits=Limits(batch=batch, waiting=waiting))),
        host="127.0.0.1",
        port=0,
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    tally, lock = Tally(), threading.Lock()

    def one(case: Case) -> None:
        begun = time.perf_counter()
        while True:
            answer = http.post(f"http://127.0.0.1:{port}/v1/{case.path}", **case.arguments)
            if answer.status_code != 429:
                break
            with lock:
                tally.refused += 1
            time.sleep(min(0.25, float(answer.headers["retry-after"])))
        with lock:
            tally.seconds.append(time.perf_counter() - begun)
            if answer.status_code != 200:
                tally.lost += 1
            elif decoded(answer.json()) != case.right:
                tally.wrong += 1
            if len(tally.seconds) == 50:
                tally.early_memory = resident()

    with httpx.Client(timeout=300, limits=httpx.Limits(max_connections=clients)) as http:
        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(one, cases))
        seconds = time.perf_counter() - start
    server.should_exit = True
    thread.join(60)
    return tally, len(cases) / seconds


def decoded(answer: dict[str, Any]) -> str | bytes:
    if "choices" in answer:
        text: str = answer["choices"][0]["message"]["content"]
        return text
    return Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))).convert("RGB").tobytes()


def report(tally: Tally, rate: float, batch: int) -> int:
    ordered = sorted(tally.seconds)
    growth = resident() / tally.early_memory if tally.early_memory else 1.0
    p50, p95 = ordered[len(ordered) // 2], ordered[int(0.95 * len(ordered))]
    print(
        f"batches of at most {batch}: {rate:.1f} requests/s, p50 {p50:.2f} s, p95 {p95:.2f} s, longest "
        f"{ordered[-1]:.2f} s; {len(ordered)} answers, {tally.wrong} wrong, {tally.lost} lost, "
        f"{tally.refused} times 429; memory {(growth - 1) * 100:+.1f} % after the first 50"
    )
    return tally.wrong + tally.lost + (growth > GROWTH)


def resident() -> int:
    """Bytes of memory that this process has now (Linux), else the most it had."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
