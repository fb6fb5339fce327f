"""What a stranger can do to the page without a browser: read no file, have nothing fetched, not enter without a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from serve_fixtures import picture, png, running

from dimoo.pipeline import Pipeline
from dimoo.serve.service import Service
from dimoo.serve.settings import ServeSettings

pytest.importorskip("gradio")
import gradio

from dimoo.serve.web import retouch, site, uploads

URL = "http://192.0.2.1/picture.png"


@pytest.fixture(scope="module")
def fetched() -> Iterator[list[str]]:
    """What the page was asked to fetch."""
    seen: list[str] = []

    async def refuse(url: str, **_: Any) -> str:
        seen.append(url)
        raise ValueError("refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "_fetch_nothing", refuse)
        yield seen


@pytest.fixture(scope="module")
def page(pipeline: Pipeline, fetched: list[str]) -> Iterator[httpx.Client]:
    with running(pipeline, ServeSettings()) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def call(page: httpx.Client, path: str) -> dict[str, Any]:
    """Send a file, named by its path, to the handler that reads nothing but a result: the outcome of the call."""
    config = page.get("/config").json()
    results = [one["id"] for one in config["components"] if one["props"].get("label") == "Result"]
    sends = next(one for one in config["dependencies"] if one["inputs"] == results[:1])
    return outcome(page, sends["id"], [{"path": path, "meta": {"_type": "gradio.FileData"}}])


def outcome(page: httpx.Client, handler: int, data: list[Any]) -> dict[str, Any]:
    """Call a handler of the page with values of our own choosing: how that ended."""
    asked = {"data": data, "fn_index": handler, "session_hash": f"s{handler}{abs(hash(json.dumps(data)))}"}
    assert page.post("/gradio_api/queue/join", json=asked).status_code == 200
    with page.stream("GET", "/gradio_api/queue/data", params={"session_hash": asked["session_hash"]}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: ") and (event := json.loads(line[6:]))["msg"] == "process_completed":
                return event
    raise AssertionError("the call did not end")


def test_the_call_works_with_an_uploaded_file(page: httpx.Client) -> None:
    uploaded = page.post("/gradio_api/upload", files={"files": ("a.png", png(picture()))}).json()[0]
    assert call(page, uploaded)["success"]


@pytest.mark.parametrize("path", ["/etc/passwd", str(Path("pyproject.toml").resolve()), "/proc/self/environ"])
def test_files_of_the_server_are_neither_read_nor_given(page: httpx.Client, path: str) -> None:
    made = call(page, path)
    assert not made["success"]
    assert "root:" not in json.dumps(made)
    assert page.get(f"/gradio_api/file={path}").status_code in (403, 404)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A real picture on the server's disk that nobody uploaded."""
    file = tmp_path / "private.png"
    file.write_bytes(png(picture()))
    return file


def test_a_picture_on_the_disk_is_not_taken_for_a_visitors(page: httpx.Client, private: Path) -> None:
    # Broken to try it: without `has_launched`, Gradio copied any file of the server to where a visitor may fetch it.
    assert not call(page, str(private))["success"]


def test_every_input_that_takes_files_refuses_those_of_the_server(page: httpx.Client, private: Path) -> None:
    config = page.get("/config").json()
    kinds = {one["id"]: one["type"] for one in config["components"]}
    file = {"path": str(private), "meta": {"_type": "gradio.FileData"}}
    values: dict[str, Any] = {
        "image": file,
        "uploadbutton": file,
        "multimodaltextbox": {"text": "what?", "files": [file]},
        "imageeditor": {"background": file, "layers": [file], "composite": file},
    }
    tried: set[str] = set()
    for one in config["dependencies"]:
        taken = {kinds[id] for id in one["inputs"]} & set(values)
        if not taken <= tried:
            made = outcome(page, one["id"], [values.get(kinds[id]) for id in one["inputs"]])
            assert not made["success"], taken
            tried |= taken
    assert tried == set(values)


def test_the_editor_keeps_little_of_what_is_sent(page: httpx.Client, private: Path) -> None:
    # Broken to try it: Gradio makes room for any layer number, and keeps what is never used.
    canvas = retouch.bounded(retouch.gr.ImageEditor(render=False))

    def send(index: str, name: str) -> None:
        told = {"type": "layer", "index": index, "id": name}
        canvas.accept_blobs(SimpleNamespace(data=told, files=[("layer", b"")]))

    with pytest.raises(ValueError, match="at most 4 layers"):
        send("2000000000", "one")
    for number in range(200):
        send("0", str(number))
    assert len(canvas.blob_storage) == retouch.KEPT

    config = page.get("/config").json()
    editor = next(one["id"] for one in config["components"] if one["type"] == "imageeditor")
    file = {"path": page.post("/gradio_api/upload", files={"files": ("a.png", private.read_bytes())}).json()[0]}
    file["meta"] = {"_type": "gradio.FileData"}
    handler = next(one for one in config["dependencies"] if editor in one["inputs"])
    layered = {"background": None, "layers": [file] * 50, "composite": None}
    made = outcome(page, handler["id"], [layered if id == editor else None for id in handler["inputs"]])
    assert not made["success"]


def test_the_conversation_is_not_taken_from_the_browser(page: httpx.Client) -> None:
    # Broken to try it: the chatbot among the inputs of the question; its value can name files and components.
    config = page.get("/config").json()
    chatbots = {one["id"] for one in config["components"] if one["type"] == "chatbot"}
    assert chatbots and not any(chatbots & set(one["inputs"]) for one in config["dependencies"])


def test_the_page_relays_nothing(page: httpx.Client) -> None:
    for path in (
        "file=http://192.0.2.1/x.png",
        "file=https://example.com/x.png",
        "FILE=HTTP://192.0.2.1/x",
        "file/https://example.com/x.png",
    ):
        assert page.get(f"/gradio_api/{path}").status_code in (400, 404)
    for sign in "=/":
        refused = page.get(f"/gradio_api/file{sign}https://example.com/").json()
        assert refused["error"]["message"].endswith("not fetched")


def test_beside_the_page_unknown_paths_are_the_apis(page: httpx.Client) -> None:
    for method, path, status in (
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/images/generations", 405),
        ("POST", "/v1/models", 405),
    ):
        answer = page.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert page.get("/v1/models").status_code == 200


def test_a_picture_that_was_put_away_is_asked_for_again(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="again"):
        uploads.read_file(Service(pipeline, ServeSettings()), str(tmp_path / "gone.png"))
    place = uploads.picture_input("Picture")
    with pytest.raises(gradio.Error, match="again"):
        place.preprocess(gradio.data_classes.ImageData(path=str(tmp_path / "gone.png"), orig_name="gone.png"))


def test_nothing_is_fetched(page: httpx.Client, fetched: list[str]) -> None:
    assert not call(page, URL)["success"]
    assert fetched == [URL]  # asked for, and refused by us
    assert page.get(f"/gradio_api/proxy={URL}").status_code >= 400


def test_the_page_asks_for_a_key_as_password(pipeline: Pipeline) -> None:
    with running(pipeline, ServeSettings(keys=("one", "zwei"))) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/config").status_code == 401
        assert client.post("/gradio_api/queue/join", json={"data": [], "fn_index": 0}).status_code == 401
        assert client.post("/gradio_api/upload", files={"files": ("a.png", png(picture()))}).status_code == 401
        for key, status in (("three", 400), ("", 422), ("zwei", 200)):
            assert client.post("/login", data={"username": "me", "password": key}).status_code == status
        assert client.get("/config").status_code == 200
