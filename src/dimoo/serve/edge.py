"""The outermost layer: request ids, keys, the size of bodies, one log line a request.

Pure ASGI, so that a body too large is refused while it arrives, and a stranger's body is not read at all.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.requests import ClientDisconnect

from dimoo.serve.errors import ApiError, invalid, too_large, unauthorised, wrong_host
from dimoo.serve.service import request_id

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Gradio would fetch what such a path names
RELAY = re.compile(r"(/gradio_api)?/(file[=/]https?:|proxy=)", re.IGNORECASE)
GUARDED = ("/v1/", "/metrics", "/openapi.json", "/docs")  # the page has its own door (web.py)


class _BodyTooLarge(Exception):
    pass


class Edge:
    """Wraps an ASGI application. `in_flight` counts the requests to the API that are being answered. With `hosts`,
    requests whose Host header names another one are refused: a website whose name was pointed at this machine
    (DNS rebinding) shall not use a visitor's browser to reach a server that listens here only."""

    def __init__(self, app: App, *, keys: Sequence[str], body_bytes: int, hosts: Sequence[str] = ()) -> None:
        self.app, self.body_bytes = app, body_bytes
        self.hosts = tuple(host.lower() for host in hosts)
        self.keys = tuple(key.encode() for key in keys)
        self.in_flight = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        api = scope["path"].startswith(GUARDED)
        self.in_flight += api
        try:
            await _Exchange(self, scope, receive, send).run(guarded=api)
        finally:
            self.in_flight -= api

    def known_host(self, headers: dict[bytes, bytes]) -> bool:
        name = headers.get(b"host", b"").decode("latin-1").lower()
        return not self.hosts or re.sub(r":\d+$", "", name) in self.hosts

    def admits(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the bearer key is one of ours; every key is compared, in constant time."""
        if not self.keys:
            return True
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        matches = [hmac.compare_digest(given.strip(), key) for key in self.keys]
        return kind.lower() == b"bearer" and any(matches)


class _Exchange:
    """One request and its answer."""

    def __init__(self, edge: Edge, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.edge, self.scope, self._receive, self._send = edge, scope, receive, send
        self.id = f"req_{secrets.token_hex(12)}"
        self.start = time.perf_counter()
        self.read = 0
        self.status: int | None = None
        self.over = False

    async def run(self, *, guarded: bool) -> None:
        token = request_id.set(self.id)
        headers = dict(self.scope["headers"])
        try:
            if not self.edge.known_host(headers):
                await self.refuse(wrong_host())
            elif RELAY.match(self.scope["path"]):
                await self.refuse(invalid("pictures are uploaded, not fetched"))
            elif guarded and not self.edge.admits(headers):
                await self.refuse(unauthorised())
            elif int(headers.get(b"content-length", b"0")) > self.edge.body_bytes:
                await self.refuse(self.too_large())
            else:
                await self.edge.app(self.scope, self.receive, self.send)
        except _BodyTooLarge:
            await self.refuse(self.too_large())
        except ClientDisconnect:
            pass  # nobody is left to hear of it
        finally:
            request_id.reset(token)
            if guarded:
                seconds = time.perf_counter() - self.start
                line = (self.id, self.scope["method"], self.scope["path"], self.status, seconds)
                log.info("%s %s %r %s %.3f s", *line)

    def too_large(self) -> ApiError:
        return too_large(f"the body is larger than {self.edge.body_bytes:,} bytes")

    async def receive(self) -> Message:
        message = await self._receive()
        self.read += len(message.get("body", b""))
        if self.read > self.edge.body_bytes:
            self.over = True
            raise _BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        if self.over and self.status is None:  # someone inside made another error of it
            raise _BodyTooLarge
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], (b"x-request-id", self.id.encode())]}
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answer instead of the application, unless it has begun to."""
        if self.status is not None:
            return
        self.over = False
        body = json.dumps(error.body()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in error.headers().items()]
        headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
