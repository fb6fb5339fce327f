"""Pictures of the web page for docs/serve.md, taken in a real browser.

    python scripts/photograph_page.py                          # the shipped model, or random weights
    python scripts/photograph_page.py --checkpoint FOLDER --output docs/images

Draws (once in mid-run, once finished), retouches by a brush stroke, asks about the picture, and writes
serve-live.webp, serve-draw.webp, serve-retouch.webp, serve-ask.webp, and serve-phone.webp at a phone's width. Needs a
chromium and playwright. Look at them before they are committed.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from dimoo.commands.options import Where
from dimoo.commands.session import session
from dimoo.pipeline import Pipeline
from dimoo.serve.app import Server
from dimoo.serve.service import Service
from dimoo.serve.settings import ServeSettings

DRAWN = "a big 3d cat in the centre, on a blue background"
PAINTED = "a flat red apple"
ASKED = "What is in the picture?"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PATIENCE = 300_000  # milliseconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a folder or a hub id; without it the shipped model, or random weights")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    options = parser.parse_args()
    with session(Where(checkpoint=options.checkpoint, device="cpu")) as one:
        server, thread = started(one.pipe)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            context = playwright.chromium.launch_persistent_context(
                profile, executable_path=chromium, args=FLAGS, viewport={"width": 1000, "height": 900}
            )
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.goto(address)
            photograph(page, options.output)
            context.close()
        server.should_exit = True
        thread.join(60)
    return 0


def started(pipeline: Pipeline) -> tuple[Server, threading.Thread]:
    server = Server(Service(pipeline, ServeSettings()), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    return server, thread


def photograph(page: Any, folder: Path) -> None:
    """All pictures, one after the other, in one session."""
    draw = page.get_by_role("tabpanel").filter(visible=True)
    draw.get_by_label("What shall be drawn?").fill(DRAWN)
    draw.get_by_role("button", name="Draw", exact=True).click()
    draw.get_by_alt_text("now").wait_for()
    save(page, folder / "serve-live.webp")
    draw.get_by_text("Done in").wait_for()
    draw.locator(".result img").wait_for()
    page.wait_for_timeout(500)
    save(page, folder / "serve-draw.webp")
    page.set_viewport_size({"width": 375, "height": 800})
    page.wait_for_timeout(500)
    save(page, folder / "serve-phone.webp")
    page.set_viewport_size({"width": 1000, "height": 900})

    draw.get_by_role("button", name="Retouch this").click()
    retouch = page.get_by_role("tabpanel").filter(visible=True)
    retouch.get_by_text("Now paint.").wait_for()
    stroke(page, retouch)
    retouch.get_by_label("What shall be there?").fill(PAINTED)
    retouch.get_by_role("button", name="Retouch", exact=True).click()
    retouch.get_by_text("Outside the mask").wait_for()
    retouch.locator(".compare img").first.wait_for()
    page.wait_for_timeout(1000)
    save(page, folder / "serve-retouch.webp")

    retouch.get_by_role("button", name="Ask about this").click()
    ask = page.get_by_role("tabpanel").filter(visible=True)
    box = ask.get_by_placeholder("What is in the picture?")
    box.fill(ASKED)
    box.press("Enter")
    ask.get_by_text("Done in").wait_for()
    page.wait_for_timeout(500)
    save(page, folder / "serve-ask.webp")


def stroke(page: Any, panel: Any) -> None:
    """A brush stroke by mouse over the middle of the canvas."""
    canvas = panel.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)  # the canvas sets its size after its picture has come
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    for shift in range(-60, 65, 10):
        page.mouse.move(x + shift, y + shift / 3)
    page.mouse.up()
    page.wait_for_timeout(500)


def save(page: Any, file: Path) -> None:
    """The whole page, as WebP."""
    Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB").save(file, quality=85, method=6)


if __name__ == "__main__":
    sys.exit(main())
