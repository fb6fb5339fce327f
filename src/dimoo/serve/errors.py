"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}` with a status.

Everything a client may be told is an `ApiError`; anything else that is raised becomes a 500 that says nothing of the
inside (app.py).
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error for the client: HTTP status, sentence, the parameter that is wrong, a short code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type, self.param, self.code = status, message, type, param, code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)


def too_large(message: str, param: str | None = None) -> ApiError:
    return ApiError(413, message, param=param, code="request_too_large")


def unauthorised() -> ApiError:
    return ApiError(401, "a valid key is needed: send 'Authorization: Bearer KEY'", code="invalid_api_key")


def wrong_host() -> ApiError:
    message = "this server is asked by another name; name it with --allow-host"
    return ApiError(421, message, code="unknown_host")


def no_such_model(name: str, known: str) -> ApiError:
    return ApiError(404, f"there is no model {name!r} here, only {known!r}", param="model", code="model_not_found")


def queue_full(waiting: int, retry_after: int) -> ApiError:
    message = f"{waiting} requests are waiting already; try again in {retry_after} s"
    return ApiError(429, message, type="rate_limit_error", code="queue_full", retry_after=retry_after)


def shutting_down(what: str = "was not begun") -> ApiError:
    message = f"the server is shutting down; the request {what}"
    return ApiError(503, message, type="server_error", code="shutting_down", retry_after=5)


def out_of_time(seconds: float) -> ApiError:
    return ApiError(504, f"not finished within {seconds:g} s", type="server_error", code="timeout")


def refused(reason: str) -> ApiError:
    return ApiError(400, reason, type="image_generation_user_error", code="content_policy_violation")


def internal(request_id: str) -> ApiError:
    message = f"the server failed on this request (id {request_id}); its log says why"
    return ApiError(500, message, type="server_error", code="internal_error")
