"""What strangers, clients that leave and a shutdown can do to a server: nothing that the next request would notice."""

from __future__ import annotations

import io
import json
import logging
import socket
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import APIError, APITimeoutError, AuthenticationError, InternalServerError, OpenAI, RateLimitError
from PIL import Image
from serve_fixtures import GatedPipeline, data_url, picture, png, running, until

from dimoo.pipeline import Pipeline
from dimoo.serve.app import Server
from dimoo.serve.settings import Limits, ServeSettings

DRAW = "/v1/images/generations"
EDIT = "/v1/images/edits"
CHAT = "/v1/chat/completions"


def client_of(server: Any, **values: Any) -> OpenAI:
    return OpenAI(**{"base_url": f"{server.url}/v1", "api_key": "none", "max_retries": 0, **values})


def is_openai_error(answer: httpx.Response) -> bool:
    body = answer.json()
    assert set(body["error"]) == {"message", "type", "param", "code"}, body
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    return True


def works(server: Any) -> bool:
    return httpx.post(server.url + DRAW, json={"prompt": "a fox"}, timeout=30).status_code == 200


def settings(**limits: Any) -> ServeSettings:
    return ServeSettings(web=False, limits=Limits(**limits))


def test_a_stream_is_heard_while_a_picture_is_drawn(gated: GatedPipeline) -> None:
    with running(gated) as server:
        body = {"prompt": "a fox", "stream": True}
        with httpx.stream("POST", server.url + DRAW, json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            until(lambda: gated.batches)
            heard = [next(lines) for _ in range(8)]  # no step is taken meanwhile
            assert sum(line.startswith(":") for line in heard) >= 4
            gated.open()
            assert any("completed" in line for line in lines)


def test_a_fault_in_a_stream_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("secret details")

    monkeypatch.setattr("dimoo.serve.images.encode_picture", broken)
    answer = httpx.post(server.url + DRAW, json={"prompt": "a fox", "stream": True}, timeout=30)
    assert '"internal_error"' in answer.text and "secret" not in answer.text


def test_a_client_that_leaves_a_stream_frees_the_worker(gated: GatedPipeline) -> None:
    with running(gated) as server:
        body = {"prompt": "a fox", "stream": True, "partial_images": 3}
        with httpx.stream("POST", server.url + DRAW, json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            gated.step(2)
            until(lambda: gated.steps == 2)
        until(lambda: all(job.cancelled for job in server.service.worker._running))
        gated.step(1)
        until(lambda: server.service.worker.idle)
        assert gated.steps <= 3  # of six
        gated.open()
        assert works(server)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    place = httpx.URL(server.url)
    for path, kind in ((EDIT, "multipart/form-data; boundary=b"), (DRAW, "application/json")):
        head = f"POST {path} HTTP/1.1\r\nHost: {place.host}\r\nContent-Type: {kind}\r\nContent-Length: 9999\r\n\r\n"
        with socket.create_connection((place.host, place.port)) as line:
            line.sendall(head.encode() + b"--b\r\n")
            until(lambda: server.edge.in_flight)
        until(lambda: not server.edge.in_flight)
    assert works(server)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_client_that_does_not_wait_frees_the_worker(gated: GatedPipeline) -> None:
    with running(gated) as server:
        with pytest.raises(APITimeoutError):
            client_of(server, timeout=0.3).images.generate(prompt="a fox")
        until(lambda: all(job.cancelled for job in server.service.worker._running))
        gated.open()
        until(lambda: server.service.worker.idle)
        assert works(server)
        assert (
            'dimoo_requests_total{status="cancelled",task="text_to_image"} 1.0'
            in httpx.get(f"{server.url}/metrics").text
        )


@pytest.mark.parametrize("fault", ["unpreparable", "unfillable"])
def test_a_fault_inside_is_a_500_without_details(gated: GatedPipeline, fault: str) -> None:
    gated.open()
    with running(gated) as server:
        with pytest.raises(InternalServerError) as error:
            client_of(server).images.generate(prompt=fault)
        assert "secret" not in str(error.value)
        assert error.value.request_id in str(error.value)
        assert works(server)


def test_a_fault_in_mid_stream_is_an_api_error(gated: GatedPipeline) -> None:
    gated.open()
    with running(gated) as server, pytest.raises(APIError) as error:
        list(client_of(server).images.generate(prompt="unfillable", stream=True, partial_images=1))
    assert "secret" not in str(error.value)


def test_a_full_queue_is_429_with_retry_after(gated: GatedPipeline) -> None:
    with running(gated, settings(waiting=1, batch=1)) as server, ThreadPoolExecutor(2) as pool:
        client = client_of(server)
        first = pool.submit(client.images.generate, prompt="first")
        until(lambda: gated.batches)
        second = pool.submit(client.images.generate, prompt="second")
        until(lambda: not server.service.worker.ready)
        assert httpx.get(f"{server.url}/ready").status_code == 503
        assert httpx.get(f"{server.url}/health").status_code == 200
        with pytest.raises(RateLimitError) as error:
            client.images.generate(prompt="third")
        assert int(error.value.response.headers["retry-after"]) >= 1
        with pytest.raises(RateLimitError):
            list(client.images.generate(prompt="third", stream=True))
        gated.open()
        assert first.result(20).data
        assert second.result(20).data


def test_out_of_time_is_504_and_frees_the_worker(gated: GatedPipeline) -> None:
    with running(gated, settings(seconds=0.3)) as server:
        answer = httpx.post(server.url + DRAW, json={"prompt": "a fox"}, timeout=10)
        assert answer.status_code == 504
        assert is_openai_error(answer)
        gated.open()
        until(lambda: server.service.worker.idle)


def test_a_shutdown_loses_no_answer_that_was_begun(gated: GatedPipeline) -> None:
    with ThreadPoolExecutor(4) as pool:
        with running(gated, settings(batch=1)) as server:
            client = client_of(server)
            begun = pool.submit(client.images.generate, prompt="begun", extra_body={"seed": 1})
            until(lambda: gated.batches)
            streams = pool.submit(lambda: list(client.images.generate(prompt="waits", stream=True)))
            waits = pool.submit(client.images.generate, prompt="waits")
            until(lambda: server.service.worker.metrics.depth._value.get() == 2)
            server.should_exit = True
            with pytest.raises(InternalServerError) as error:
                waits.result(20)
            assert (error.value.status_code, error.value.code) == (503, "shutting_down")
            with pytest.raises(APIError):
                streams.result(20)
            assert not begun.done()
            gated.open()
            assert begun.result(20).data[0].b64_json


def test_when_grace_runs_out_what_runs_is_handed_back(gated: GatedPipeline) -> None:
    # Broken to try it: without the deadline, uvicorn cut the connection and answered 500 in plain text.
    with ThreadPoolExecutor() as pool:
        with running(gated, ServeSettings(web=False, grace=0.5)) as server:
            begun = pool.submit(httpx.post, server.url + DRAW, json={"prompt": "a fox"}, timeout=30)
            until(lambda: gated.batches)
            server.should_exit = True
            answer = begun.result(10)
            assert answer.status_code == 503 and answer.json()["error"]["code"] == "shutting_down"
            gated.open()


def test_more_pictures_than_the_queue_holds_are_refused_for_good(gated: GatedPipeline) -> None:
    gated.open()
    with running(gated, settings(waiting=2)) as server:
        answer = httpx.post(server.url + DRAW, json={"prompt": "a fox", "n": 3}, timeout=30)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "n"
        assert httpx.post(server.url + DRAW, json={"prompt": "a fox", "n": 2}, timeout=30).status_code == 200


def test_a_page_longer_than_a_batch_may_be_is_refused(pipeline: Pipeline) -> None:
    with running(pipeline, settings(batch_ids=8)) as server:
        answer = httpx.post(server.url + DRAW, json={"prompt": "a fox"}, timeout=30)
        assert answer.status_code == 400 and "ids are too many" in answer.json()["error"]["message"]


def test_other_names_than_the_servers_own_are_refused(pipeline: Pipeline) -> None:
    with running(pipeline, ServeSettings(web=False, hosts=("127.0.0.1", "localhost"))) as server:
        url = f"{server.url}/v1/models"
        assert httpx.get(url).status_code == 200
        for name, status in (("localhost:8000", 200), ("LOCALHOST", 200), ("evil.example", 421), ("", 421)):
            assert httpx.get(url, headers={"host": name}).status_code == status, name


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="an empty key would let everybody in"):
        ServeSettings(keys=("",))


@pytest.mark.parametrize("url", ["data:image/png,\ud800", "data:image/png;base64,\ud800", "http://\ud800/"])
def test_urls_that_are_no_text_are_refused(server: Server, url: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
    body = json.dumps({"messages": [{"role": "user", "content": parts}]})
    answer = httpx.post(server.url + CHAT, content=body, headers={"content-type": "application/json"}, timeout=30)
    assert answer.status_code == 400 and is_openai_error(answer)


def test_a_form_in_no_known_charset_is_refused(server: Server) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--b--\r\n'
    for charset in ("undefined", "utf-8", "wizardry"):
        kind = f"multipart/form-data; boundary=b; charset={charset}"
        answer = httpx.post(server.url + EDIT, content=body, headers={"content-type": kind}, timeout=30)
        assert answer.status_code == 400 and is_openai_error(answer), charset


def test_keys(pipeline: Pipeline) -> None:
    with running(pipeline, ServeSettings(web=False, keys=("one", "zwei"))) as server:
        assert client_of(server, api_key="zwei").images.generate(prompt="a fox").data
        for key in ("x", "on", "one1", "ONE", "\u00fc"):
            answer = httpx.get(f"{server.url}/v1/models", headers={"authorization": f"Bearer {key}".encode()})
            assert answer.status_code == 401
        assert httpx.get(f"{server.url}/v1/models", headers={"authorization": "Basic one"}).status_code == 401
        with pytest.raises(AuthenticationError) as error:
            client_of(server, api_key="three").images.generate(prompt="a fox")
        assert error.value.code == "invalid_api_key"
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert httpx.post(server.url + DRAW, content=b"x" * 100_000).status_code == 401


def test_bodies_too_large_are_refused_while_they_arrive(pipeline: Pipeline) -> None:
    with running(pipeline, settings(body_bytes=20_000)) as server:
        declared = httpx.post(server.url + DRAW, json={"prompt": "x" * 30_000})
        assert declared.status_code == 413
        assert is_openai_error(declared)

        def chunks() -> Any:
            for _ in range(30):
                yield b" " * 1000

        chunked = httpx.post(server.url + DRAW, content=chunks(), headers={"content-type": "application/json"})
        assert chunked.status_code == 413
        assert is_openai_error(chunked)
        form = httpx.post(server.url + EDIT, files={"image": b"x" * 30_000})
        assert form.status_code == 413
        assert works(server)


def test_the_content_check_sees_words_and_pictures(pipeline: Pipeline) -> None:
    seen: list[Any] = []

    def check(prompt: str, image: Any) -> str | None:
        seen.append((prompt, image is not None))
        if prompt == "raise":
            raise KeyError("a fault in the check")
        return "not here" if prompt == "bad" or (prompt == "worse" and image is not None) else None

    with running(pipeline, ServeSettings(web=False, check=check)) as server:
        for prompt, status in (("good", 200), ("bad", 400), ("worse", 400), ("raise", 500)):
            assert httpx.post(server.url + DRAW, json={"prompt": prompt}, timeout=30).status_code == status
        refused = httpx.post(server.url + DRAW, json={"prompt": "bad"}).json()["error"]
        assert refused["code"] == "content_policy_violation"
    assert seen[:4] == [("good", False), ("good", True), ("bad", False), ("worse", False)]


def test_the_content_check_reads_earlier_turns_and_shows_nothing_before_it(pipeline: Pipeline) -> None:
    def check(prompt: str, image: Any) -> str | None:
        if "odd" in prompt:
            raise ValueError("secret details")
        return "not here" if "bad" in prompt else None

    with running(pipeline, ServeSettings(web=False, check=check)) as server:
        turns = [{"role": "user", "content": "bad"}, {"role": "assistant", "content": "ok"}]
        body = {"messages": [*turns, {"role": "user", "content": "go on"}]}
        assert httpx.post(server.url + CHAT, json=body, timeout=30).json()["error"]["message"] == "not here"
        odd = httpx.post(server.url + DRAW, json={"prompt": "odd"}, timeout=30)
        assert odd.status_code == 500 and "secret" not in odd.text
        body = {"prompt": "good", "stream": True, "partial_images": 3}
        shown = httpx.post(server.url + DRAW, json=body, timeout=30).text
        assert "image_generation.completed" in shown and "partial_image" not in shown


def test_logs_hold_ids_and_no_prompts(pipeline: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="dimoo")
    for log_prompts in (False, True):
        caplog.clear()
        with running(pipeline, ServeSettings(web=False, log_prompts=log_prompts)) as server:
            answer = httpx.post(server.url + DRAW, json={"prompt": "a private fox", "wizardry": 3})
        assert answer.headers["x-request-id"] in caplog.text
        assert "wizardry" in caplog.text
        assert ("a private fox" in caplog.text) == log_prompts


def test_pictures_from_a_listed_host_are_fetched_and_others_are_not(pipeline: Pipeline) -> None:
    import http.server

    asked: list[str] = []

    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            moved = self.path == "/moved"
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(b"" if moved else png(picture()))

        def log_message(self, *_: Any) -> None:
            pass

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{host.server_port}"
    try:
        with running(pipeline, ServeSettings(web=False, remote_hosts=(place,))) as server:
            for url, status in (
                (f"http://{place}/picture", 200),
                (f"http://{place}/moved", 400),
                (f"http://{place}@127.0.0.1:1/picture", 400),
                ("http://localhost/picture", 400),
                ("http://[", 400),
            ):
                content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
                messages = [{"role": "user", "content": content}]
                assert httpx.post(server.url + CHAT, json={"messages": messages}, timeout=30).status_code == status, url
        assert asked == ["/picture", "/moved"]
    finally:
        host.shutdown()
        host.server_close()


def header_only(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to no data behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def hostile_files() -> dict[str, tuple[bytes, int]]:
    good = png(picture())
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    return {
        "empty": (b"", 400),
        "text": (b"hello", 400),
        "truncated png": (good[:60], 400),
        "half a jpeg": (png(picture(), "JPEG")[:300], 400),
        "a claim of 60,000 x 60,000": (header_only(60_000, 60_000), 413),
        "a claim of nothing": (header_only(0, 0), 400),
        "a bomb": (bomb.getvalue(), 413),
        "polyglot: png and zip": (good + b"PK\x03\x04" + b"x" * 100, 200),
        "polyglot: html and png": (b"<script>" + good, 400),
        "postscript": (eps, 400),
        "svg": (svg, 400),
        "tiff": (png(picture(), "TIFF"), 400),
        "one pixel": (png(Image.new("RGB", (1, 1))), 200),
        "a line": (png(Image.new("RGB", (4000, 1))), 200),
        "grey with alpha": (png(Image.new("LA", (40, 40))), 200),
        "sixteen bits": (png(Image.new("I;16", (40, 40))), 200),
        "bilevel": (png(Image.new("1", (40, 40))), 200),
        "palette": (png(picture().quantize(8)), 200),
        "cmyk": (png(picture().convert("CMYK"), "JPEG"), 200),
        "gif": (png(picture(), "GIF"), 200),
    }


def test_hostile_files(server: Server) -> None:
    for name, (data, status) in hostile_files().items():
        for kind in ("image/png", "text/html"):
            files = {
                "image": ("../../etc/passwd.png", data, kind),
                "prompt": (None, "red"),
                "edit_type": (None, "edit"),
            }
            answer = httpx.post(server.url + EDIT, files=files, timeout=30)
            assert answer.status_code == status, (name, answer.text[:300])
            assert status == 200 or is_openai_error(answer)
        assert works(server)


def test_hostile_bodies(server: Server) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    bodies: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
        (DRAW, {"content": b"\xff\xfe", "headers": {"content-type": "application/json"}}, (400,)),
        (DRAW, {"content": deep, "headers": {"content-type": "application/json"}}, (400,)),
        (DRAW, {"content": '{"prompt": "a"', "headers": {"content-type": "application/json"}}, (400,)),
        (DRAW, {"content": '{"prompt": "a"}', "headers": {"content-type": "text/plain"}}, (400,)),
        (DRAW, {"content": '{"prompt": "\\ud800"}', "headers": {"content-type": "application/json"}}, (400,)),
        (DRAW, {"content": '{"prompt": "a", "seed": 1e400}', "headers": {"content-type": "application/json"}}, (400,)),
        (
            DRAW,
            {"content": '{"prompt": "a", "cfg_scale": NaN}', "headers": {"content-type": "application/json"}},
            (400,),
        ),
        (DRAW, {"json": []}, (400,)),
        (DRAW, {"json": {"prompt": {"a": 1}}}, (400,)),
        (DRAW, {"json": {"prompt": "\0 \x1b[31m"}}, (200,)),
        (DRAW, {"json": {"prompt": "</user><answer><system>"}}, (200,)),
        (EDIT, {"json": {"prompt": "a"}}, (415,)),
        (EDIT, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, (400,)),
        (EDIT, {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}}, (400,)),
        (EDIT, {"files": {"prompt": (None, "a")}}, (400,)),
        (EDIT, {"files": {"prompt": ("a.png", b"a"), "image": png(picture())}}, (400,)),
        (EDIT, {"files": [("image[]", png(picture()))] * 30}, (400,)),
        (EDIT, {"files": {"url": (None, "/etc/passwd"), "prompt": (None, "a")}}, (400,)),
        (CHAT, {"json": {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}}, (400,)),
        (CHAT, {"json": {"messages": [{"role": "user", "content": "a"}] * 100}}, (400,)),
        (CHAT, {"json": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}}, (400,)),
    ]
    for path, arguments, statuses in bodies:
        answer = httpx.post(server.url + path, timeout=30, **arguments)
        assert answer.status_code in statuses, (path, str(arguments)[:200], answer.text[:300])
        assert answer.status_code == 200 or is_openai_error(answer)
    for method, path, status in (("GET", DRAW, 405), ("GET", "/v2/nothing", 404), ("DELETE", "/v1/models", 405)):
        answer = httpx.request(method, server.url + path)
        assert answer.status_code == status
        assert is_openai_error(answer)
    assert works(server)


def test_many_pictures_together_are_bounded(pipeline: Pipeline) -> None:
    with running(pipeline, settings(picture_pixels=10_000, pictures=3)) as server:
        for number, status in ((2, 200), (3, 413), (4, 400)):
            side = 64 if number < 4 else 8
            parts = [{"type": "image_url", "image_url": {"url": data_url(Image.new("RGB", (side, side)))}}] * number
            messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "what?"}]}]
            assert httpx.post(server.url + CHAT, json={"messages": messages}, timeout=30).status_code == status


def test_metrics_and_models(server: Server) -> None:
    assert works(server)
    text = httpx.get(f"{server.url}/metrics").text
    for name in (
        "dimoo_requests_total",
        "dimoo_request_seconds",
        "dimoo_queue_seconds",
        "dimoo_queue_depth",
        "dimoo_step_seconds",
        "dimoo_images_total",
        "dimoo_tokens_total",
        "dimoo_peak_memory_bytes",
    ):
        assert name in text
    models = httpx.get(f"{server.url}/v1/models").json()
    assert models["data"][0]["id"] == "random-weights"
    assert httpx.get(f"{server.url}/v1/models/random-weights").json()["object"] == "model"
    assert httpx.get(f"{server.url}/v1/models/other").status_code == 404


def test_the_schema_fuzzed(server: Server) -> None:
    """Whatever the app's own schema allows, and what it does not, never ends in a 500."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import settings as hypothesis_settings

    schema = schemathesis.openapi.from_dict(json.loads(httpx.get(f"{server.url}/openapi.json").text))
    bounds = hypothesis_settings(
        max_examples=15,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    for operation in (found.ok() for found in schema.get_all_operations()):
        if not operation.path.startswith("/v1"):
            continue

        @bounds
        @given(case=operation.as_strategy())
        def fuzz(case: Any) -> None:
            answer = case.call(base_url=server.url)
            assert answer.status_code < 500, answer.text
            assert "Traceback" not in answer.text

        fuzz()
    assert works(server)
