"""The page in a real browser: each family of tasks, brush strokes, cancel, reload, keyboard, a phone's width."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serve_fixtures import GatedPipeline, picture, running, until

from dimoo.pipeline import Pipeline
from dimoo.serve.settings import ServeSettings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000  # milliseconds: machines that test are busy

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to drive")
sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def gate(pipeline: Pipeline) -> GatedPipeline:
    made = GatedPipeline(pipeline)
    made.open()
    return made


@pytest.fixture(scope="module")
def site(gate: GatedPipeline) -> Iterator[Any]:
    with running(gate, ServeSettings()) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=CHROMIUM,
            args=FLAGS,
            viewport={"width": 1200, "height": 1000},
            timeout=PATIENCE,
        )
        context.set_default_timeout(PATIENCE)
        yield context
        context.close()


@pytest.fixture(scope="module")
def page(browser: Any, site: Any) -> Iterator[Any]:
    """One page for all tests that can share it; every request that it makes is noted."""
    made = browser.new_page()
    made.asked, made.complaints = [], []
    made.on("request", lambda request: made.asked.append(request.url))
    made.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.goto(site.url)
    made.get_by_role("tab", name="Draw").wait_for()
    yield made
    made.close()


def tab(page: Any, name: str) -> Any:
    """Open a tab; its panel."""
    page.get_by_role("tab", name=name, exact=True).click()
    return page.get_by_role("tabpanel").filter(visible=True)


def finished(panel: Any, start: Any) -> None:
    """Start a run and wait for its end. The end of an earlier run, still shown, has another seed."""
    before = seed_of(panel)
    start()
    until(lambda: seed_of(panel) not in ("", before), PATIENCE / 1000)


def seed_of(panel: Any) -> str:
    """The seed of the run that has ended; nothing while one goes on."""
    found = re.search(r"Done in .* seed (\d+)", panel.locator(".status").first.inner_text())
    return found[1] if found else ""


def pressed(panel: Any, button: str) -> None:
    """Press a button that draws, and wait for the picture."""
    finished(panel, panel.get_by_role("button", name=button, exact=True).click)
    panel.locator(f".result img[src*='-{seed_of(panel)}.png']").wait_for()


def draw(page: Any, prompt: str = "a red fox") -> Any:
    panel = tab(page, "Draw")
    panel.get_by_label("What shall be drawn?").fill(prompt)
    panel.get_by_label("A new seed each time").check()
    pressed(panel, "Draw")
    return panel


def test_drawing_shows_the_picture_its_seed_and_the_map(page: Any) -> None:
    panel = draw(page)
    panel.locator(".result img").wait_for()
    seed = seed_of(panel)
    until(lambda: panel.get_by_label("Seed", exact=True).input_value() == seed, 30)
    panel.get_by_alt_text("fixed early").wait_for()


def test_the_page_needs_nothing_from_outside(page: Any, site: Any) -> None:
    outside = [url for url in page.asked if not url.startswith((site.url, "data:", "blob:"))]
    assert outside == []
    assert page.complaints == []


def test_a_live_preview_while_it_runs_and_cancel(page: Any, gate: GatedPipeline, site: Any) -> None:
    panel = tab(page, "Draw")
    gate.close()
    before = gate.steps
    panel.get_by_role("button", name="Draw", exact=True).click()
    for number in (1, 2):
        page.wait_for_timeout(300)  # previews are shown at most every 0.12 s
        gate.step()
        panel.get_by_text(f"Step {number} of 6").wait_for()
    panel.get_by_alt_text("now").wait_for()
    panel.get_by_role("button", name="Cancel").click()
    panel.get_by_text("Cancelled.").wait_for()
    until(lambda: all(job.cancelled for job in site.service.worker._running), 30)
    gate.open()
    until(lambda: site.service.worker.idle, 30)
    assert gate.steps <= before + 3


def test_the_place_in_the_queue_is_shown(page: Any, gate: GatedPipeline, site: Any) -> None:
    panel = tab(page, "Draw")
    gate.close()
    with ThreadPoolExecutor(1) as pool:
        asked = {"prompt": "before", "num_inference_steps": 2}  # another kind than the page's: they share no batch
        before = pool.submit(httpx.post, f"{site.url}/v1/images/generations", json=asked, timeout=60)
        until(lambda: site.service.worker._running, 30)
        panel.get_by_role("button", name="Draw", exact=True).click()
        panel.get_by_text("In the queue, 0 before you.").wait_for()
        finished(panel, gate.open)
        assert before.result().status_code == 200


def test_a_reload_in_mid_run_frees_the_worker_and_the_page_works_on(page: Any, gate: GatedPipeline, site: Any) -> None:
    panel = tab(page, "Draw")
    gate.close()
    panel.get_by_role("button", name="Draw", exact=True).click()
    until(lambda: site.service.worker._running, 30)
    page.reload()
    page.get_by_role("tab", name="Draw").wait_for()
    gate.open()
    until(lambda: site.service.worker.idle, 30)
    draw(page)


def test_retouching_by_brush_changes_nothing_outside_and_goes_on_in_rounds(page: Any) -> None:
    draw(page)
    page.get_by_role("button", name="Retouch this").click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    panel.get_by_text("Now paint.").wait_for()
    for number, words in ((1, "a hat"), (2, "a tree")):
        stroke(page, panel)
        panel.get_by_label("What shall be there?").fill(words)
        pressed(panel, "Retouch")
        until(lambda: "Outside the mask" in panel.locator(".status").first.inner_text(), 30)
        changed, kept = re.findall(r"(\d+) of (\d+) pixels", panel.locator(".status").first.inner_text())[0]
        assert changed == "0"
        count = int(kept)
        assert 0 < count < 64 * 64, f"round {number}"
        before, after = (one.get_attribute("src") for one in panel.locator(".compare img").all())
        assert before != after
    panel.get_by_role("button", name="Undo the last round").click()
    panel.get_by_text("The last round is undone.").wait_for()


def stroke(page: Any, panel: Any) -> None:
    """A brush stroke by mouse over the middle of the canvas."""
    canvas = panel.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)  # the canvas sets its size after its picture has come
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    for shift in range(-40, 45, 10):
        page.mouse.move(x + shift, y + shift / 4)
    page.mouse.up()
    page.wait_for_timeout(500)


def test_retouching_without_a_mask_says_what_to_do(page: Any) -> None:
    panel = tab(page, "Retouch")
    panel.get_by_role("button", name="Retouch", exact=True).click()
    panel.get_by_text("nothing is painted").wait_for()


def test_asking_about_a_drawn_picture(page: Any) -> None:
    draw(page)
    page.get_by_role("button", name="Ask about this").click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    box = panel.get_by_placeholder("What is in the picture?")
    for question in ("what is it?", "and which colour?"):
        box.fill(question)
        finished(panel, lambda: box.press("Enter"))
        panel.get_by_text(question).wait_for()
        until(lambda: box.input_value() == "", 30)


def test_asking_about_several_pictures(page: Any, gate: GatedPipeline, tmp_path: Path) -> None:
    files = [tmp_path / f"{colour}.png" for colour in ("red", "blue")]
    for file in files:
        picture(colour=file.stem).save(file)
    panel = tab(page, "Ask")
    panel.get_by_role("button", name="New conversation").click()
    panel.get_by_text("Ready.").wait_for()
    panel.locator("input[type=file]").first.set_input_files(files)
    box = panel.get_by_placeholder("What is in the picture?")
    until(lambda: panel.locator(".thumbnail-item").count() == 2, 30)
    box.fill("what differs?")
    finished(panel, lambda: box.press("Enter"))
    assert gate.requests[-1].question == "what differs?"
    assert len(gate.requests[-1].pictures) == 2


def test_uploads_are_edited_controlled_and_outpainted(page: Any, tmp_path: Path) -> None:
    source = tmp_path / "a picture.png"
    picture().save(source)
    panel = tab(page, "Edit")
    panel.locator("input[type=file]").first.set_input_files(source)
    panel.get_by_label("Instruction").fill("make it blue")
    pressed(panel, "Edit")

    panel = tab(page, "Control")
    panel.locator("input[type=file]").first.set_input_files(source)
    panel.get_by_label("Instruction").fill("a ball")
    pressed(panel, "Make")

    panel = tab(page, "Outpaint")
    panel.locator("input[type=file]").first.set_input_files(source)
    panel.get_by_label("What shall be around it?").fill("more")
    panel.get_by_role("button", name="Outpaint", exact=True).click()
    panel.get_by_text("must be 0 or more, and not all 0").wait_for()
    panel.get_by_label("number input for Add right, pixels").fill("32")
    box = panel.get_by_label("What shall be around it?")
    finished(panel, lambda: box.press("Enter"))


def test_a_file_that_is_no_picture_is_refused_clearly(page: Any, tmp_path: Path) -> None:
    source = tmp_path / "broken.png"
    source.write_bytes(b"\x89PNG no picture")
    panel = tab(page, "Retouch")
    panel.locator("input[type=file]").first.set_input_files(source)
    panel.get_by_text("no picture that can be read").wait_for()


def test_settings_can_be_used_again(page: Any) -> None:
    panel = draw(page, "a green house")
    seed = seed_of(panel)
    draw(page, "something else")
    gallery = tab(page, "Gallery")
    gallery.locator("button").filter(has_text=f"seed {seed}").click()
    gallery.get_by_text('"a green house"').wait_for()
    draw(page, "a third, while the house is looked at")
    gallery = tab(page, "Gallery")
    until(lambda: "a green house" in gallery.locator(".preview").inner_text(), 30)
    gallery.get_by_role("button", name="Use these settings again").click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    until(lambda: panel.get_by_label("What shall be drawn?").input_value() == "a green house", 30)
    until(lambda: panel.get_by_label("Seed", exact=True).input_value() == seed, 30)
    assert not panel.get_by_label("A new seed each time").is_checked()
    gallery = tab(page, "Gallery")
    gallery.get_by_role("button", name="Close").click()
    gallery.locator(".preview").wait_for(state="detached")


def test_an_empty_prompt_is_explained(page: Any) -> None:
    panel = tab(page, "Draw")
    panel.get_by_label("What shall be drawn?").fill("")
    panel.get_by_role("button", name="Draw", exact=True).click()
    panel.get_by_text("the prompt is empty").wait_for()


def test_by_keyboard_at_a_phones_width(page: Any, browser: Any, site: Any) -> None:
    page.set_viewport_size({"width": 375, "height": 700})
    panel = tab(page, "Draw")
    box = panel.get_by_label("What shall be drawn?")
    box.focus()
    page.keyboard.type("a boat")
    finished(panel, lambda: page.keyboard.press("Enter"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Draw"
    assert page.evaluate("document.documentElement.scrollWidth") <= 376
    page.set_viewport_size({"width": 1200, "height": 1000})


def test_retouched_pixels_are_the_servers_own(pipeline: Pipeline) -> None:
    """What the browser sends back is used as a mask only: the picture never makes the round trip."""
    from dimoo.serve.web.retouch import painted_mask, to_canvas

    base = picture()
    shown = to_canvas(base)
    assert max(shown["background"].size) == 512
    painted = shown["background"].copy()
    painted.paste((0, 0, 0, 0), (0, 0, 512, 512))
    painted.paste((255, 255, 255, 255), (0, 0, 256, 128))
    mask = np.asarray(painted_mask({"layers": [painted]}, base.size))
    assert mask.shape == (64, 64)
    assert (mask[:16, :32] == 255).all()
    assert mask.astype(bool).sum() == 16 * 32
