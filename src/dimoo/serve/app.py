"""The application: routes, errors, health, metrics, the page; and the server that runs it and stops gently.

/v1/images/generations  /v1/images/edits  /v1/chat/completions  /v1/models  /health  /ready  /metrics  /
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

import dimoo
from dimoo.serve.chat import chat_routes
from dimoo.serve.edge import Edge
from dimoo.serve.errors import ApiError, internal
from dimoo.serve.images import ERRORS, image_routes, invalid_fields
from dimoo.serve.schema import ModelCard, ModelList
from dimoo.serve.service import Service, request_id
from dimoo.serve.streams import ClientGone

log = logging.getLogger(__name__)


def create_app(service: Service) -> Edge:
    """Everything over one service; its worker starts and stops with the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.stop, service.settings.grace)

    app = FastAPI(title="dimoo", version=dimoo.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(image_routes(service))
    app.include_router(chat_routes(service))
    _add_models(app, service)
    _add_operations(app, service)
    for kind, handler in (
        (ApiError, _api_error),
        (RequestValidationError, _invalid_body),
        (HTTPException, _http_error),
        (ClientGone, _client_gone),
        (Exception, _unexpected),
    ):
        app.add_exception_handler(kind, handler)
    if service.settings.web:
        from dimoo.serve.web.site import mount_page

        _answer_unknown_paths(app)
        mount_page(app, service)
    settings = service.settings
    return Edge(app, keys=settings.keys, body_bytes=settings.limits.body_bytes, hosts=settings.hosts)


def _answer_unknown_paths(app: FastAPI) -> None:
    """What is no route of the API is answered as the API does: the page, mounted at the root, would take it."""

    known = list(app.routes)

    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def unknown(rest: str, request: Request) -> None:
        if any(route.matches(request.scope)[0] is Match.PARTIAL for route in known):
            raise HTTPException(405, "Method Not Allowed")
        raise HTTPException(404, "Not Found")


def _add_models(app: FastAPI, service: Service) -> None:
    card = ModelCard(id=service.name, created=service.created)

    @app.get("/v1/models", tags=["models"], responses={401: ERRORS[401]})
    async def models() -> ModelList:
        """The one model that is served."""
        return ModelList(data=[card])

    @app.get("/v1/models/{model:path}", tags=["models"], responses={401: ERRORS[401], 404: ERRORS[404]})
    async def model(model: str) -> ModelCard:
        service.expect_model(model)
        return card


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["operations"], responses={503: {"description": "the worker has died"}})
    async def health() -> Response:
        """Whether the process can still answer anything."""
        alive = service.worker.alive
        return JSONResponse({"status": "ok" if alive else "dead"}, 200 if alive else 503)

    @app.get("/ready", tags=["operations"], responses={503: {"description": "full or shutting down"}})
    async def ready() -> Response:
        """Whether a request sent now would be taken."""
        is_ready = service.worker.ready
        return JSONResponse({"status": "ready" if is_ready else "busy"}, 200 if is_ready else 503)

    @app.get("/metrics", tags=["operations"], responses={401: ERRORS[401]})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _reply(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status, headers=error.headers())


async def _api_error(_: Request, error: Any) -> Response:
    return _reply(error)


async def _invalid_body(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _reply(ApiError(400, "the body is no valid JSON", code="invalid_json"))
    return _reply(invalid_fields(error))  # type: ignore[arg-type]


async def _http_error(_: Request, error: Any) -> Response:
    message = str(error.detail)
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    made = ApiError(error.status_code, message, type=kind, code="-".join(message.lower().split())[:64] or None)
    return JSONResponse(made.body(), error.status_code, headers=error.headers)


async def _client_gone(_: Request, __: Any) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _unexpected(request: Request, error: Any) -> Response:
    if isinstance(error, ClientDisconnect):  # in the middle of its body
        return await _client_gone(request, error)
    log.error("%s %s failed", request_id.get(), request.url.path, exc_info=error)
    return _reply(internal(request_id.get()))


class Server(uvicorn.Server):
    """uvicorn's server, which on a signal hands back what waits (503), finishes what runs, and then leaves without
    waiting for open pages."""

    def __init__(self, service: Service, *, host: str, port: int, log_level: str = "warning") -> None:
        self.edge = create_app(service)
        self.service = service
        config = uvicorn.Config(
            self.edge,
            host=host,
            port=port,
            log_level=log_level,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(service.settings.grace) + 2,
        )
        super().__init__(config)

    async def shutdown(self, sockets: Any = None) -> None:
        self.service.worker.drain()
        watcher = asyncio.create_task(self._leave_when_answered())
        deadline = asyncio.get_running_loop().call_later(self.service.settings.grace, self.service.worker.abandon)
        try:
            await super().shutdown(sockets)
        finally:
            watcher.cancel()
            deadline.cancel()
            self.service.worker.abandon()  # whoever is left was told, or uvicorn was told to force it
            if self.force_exit:  # then uvicorn skips it
                await asyncio.wait_for(self.lifespan.shutdown(), self.service.settings.grace)

    async def _leave_when_answered(self) -> None:
        """Once every API request is answered, connections that are still open are pages that listen."""
        await asyncio.sleep(0.2)
        while self.edge.in_flight or self.service.in_flight or not self.service.worker.idle:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)  # for answers on their way out
        self.force_exit = True
