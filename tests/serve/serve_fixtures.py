"""What the server's tests share: a server in a thread, pictures, a pipeline that waits at each step."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image, ImageDraw

from dimoo.pipeline import Pipeline, Prepared
from dimoo.sampling.image import Step
from dimoo.serve.app import Server
from dimoo.serve.service import Service
from dimoo.serve.settings import ServeSettings


@contextmanager
def running(pipeline: Any, settings: ServeSettings | None = None) -> Iterator[Server]:
    """A server on a free port of this machine, with `url`; stopped gently at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(Service(pipeline, settings or ServeSettings(web=False)), host="127.0.0.1", port=port)
    server.url = f"http://127.0.0.1:{port}"
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait for a condition; AssertionError if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class GatedPipeline:
    """A pipeline that takes a step only when told to (`open()` for all that come, until `close()`), counts its steps
    and batches, and fails on requests whose prompt says so."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.tools, self.model, self.folder = pipeline, pipeline.tools, pipeline.model, pipeline.folder
        self._tokens = threading.Semaphore(0)
        self._open = threading.Event()
        self.steps, self.batches, self.requests = 0, [], []

    def open(self) -> None:
        self._open.set()
        self._tokens.release(100)

    def close(self) -> None:
        """Wait before each step again."""
        self._open.clear()
        while self._tokens.acquire(blocking=False):
            pass

    def step(self, times: int = 1) -> None:
        self._tokens.release(times)

    def prepare(self, request: Any) -> Prepared:
        if "unpreparable" in getattr(request, "prompt", ""):
            raise RuntimeError("a fault in preparing, secret details")
        return self.pipeline.prepare(request)

    def fill(self, prepared: Sequence[Prepared]) -> Iterator[Step]:
        self.requests += [one.request for one in prepared]
        self.batches.append([getattr(one.request, "prompt", "") for one in prepared])
        for step in self.pipeline.fill(prepared):
            if not self._open.is_set():
                self._tokens.acquire()
            if any("unfillable" in prompt for prompt in self.batches[-1]):
                raise RuntimeError("a fault in filling, secret details")
            self.steps += 1
            yield step

    def finish(self, *arguments: Any) -> Any:
        return self.pipeline.finish(*arguments)


def picture(height: int = 64, width: int = 64, colour: str = "red") -> Image.Image:
    made = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(made).ellipse((8, 8, width - 9, height - 9), fill=colour)
    return made


def png(image: Image.Image, format: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


def data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def opened(encoded: str) -> Image.Image:
    """The picture in base64 text."""
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def alpha_mask(height: int = 64, width: int = 64) -> Image.Image:
    """Transparent (to be drawn) in the upper left quarter."""
    mask = Image.new("RGBA", (width, height), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, width // 2, height // 2))
    return mask
