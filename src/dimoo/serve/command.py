"""The command `dimoo serve`: flags to settings, load, run until a signal. Nothing heavy is imported before the call."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Annotated, Any

from cyclopts import Parameter

from dimoo.commands.options import WHERE, Where

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
Several = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]  # a flag for each


def serve(
    checkpoint: str | None = None,
    /,
    *,
    where: Where = WHERE,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: Several = (),
    alias: Several = (),
    allow_remote: Several = (),
    allow_host: Several = (),
    check: str | None = None,
    max_batch: int | None = None,
    max_waiting: int = 64,
    max_steps: int = 256,
    max_pixels: int | None = None,
    max_body_mb: int = 50,
    time_limit: float = 600.0,
    grace: float = 60.0,
    web: bool = True,
    metadata: bool = True,
    log_prompts: bool = False,
) -> None:
    """Serve a checkpoint: the OpenAI API under /v1, a web page at /, metrics at /metrics.

    Parameters
    ----------
    checkpoint
        A checkpoint folder or a hub id; without it, the small model that ships with the package.
    host
        The address to listen on. The default is this machine only; before opening it to others, set a key.
    port
        The port to listen on.
    api_key
        A key that clients must send as a bearer token, and the page's visitors as password; several may be given.
        Better in the environment: DIMOO_API_KEYS, separated by commas.
    alias
        Another name by which clients may ask for the model, such as the one that they have built in.
    allow_remote
        A host (HOST or HOST:PORT) from which pictures may be fetched; none by default.
    allow_host
        Another name by which the server may be asked, for instance behind a proxy. A server that listens on this
        machine only answers to its own names; one that listens further answers to any, unless some are given.
    check
        A content check, MODULE:FUNCTION: called with (prompt, picture or None), gives a reason to refuse, or None.
    max_batch
        Requests filled together; without it 8 on an accelerator, 4 on a CPU.
    max_waiting
        Requests that may wait; more are answered 429.
    max_steps
        The most steps that a request may ask for.
    max_pixels
        The most pixels of a drawn picture; without it, four times the checkpoint's own.
    max_body_mb
        The most megabytes of a request, its pictures included.
    time_limit
        Seconds from a request's arrival to its answer.
    grace
        Seconds that a shutdown waits for what runs.
    web
        Whether there is a page.
    metadata
        Whether pictures carry the request that made them.
    log_prompts
        Whether prompts are written to the log.
    """
    try:
        from dimoo.serve.app import Server
        from dimoo.serve.service import Service
    except ModuleNotFoundError as error:
        raise ValueError(f"serving needs {error.name}: pip install 'dimoo[serve]'") from error
    import dataclasses

    from dimoo.commands.session import session
    from dimoo.serve.settings import Limits, ServeSettings

    limits = Limits(
        body_bytes=max_body_mb * 1024 * 1024,
        steps=max_steps,
        output_pixels=max_pixels,
        seconds=time_limit,
        waiting=max_waiting,
        batch=max_batch,
    )
    settings = ServeSettings(
        limits=limits,
        keys=(*api_key, *(key.strip() for key in os.environ.get("DIMOO_API_KEYS", "").split(",") if key.strip())),
        remote_hosts=allow_remote,
        hosts=(*LOOPBACK, *allow_host) if host in LOOPBACK else allow_host,
        aliases=alias,
        check=None if check is None else find_check(check),
        metadata=metadata,
        log_prompts=log_prompts,
        web=web,
        grace=grace,
    )
    logging.getLogger("dimoo").setLevel(logging.INFO)
    if checkpoint is not None:
        where = dataclasses.replace(where, checkpoint=checkpoint)
    with session(where) as one:
        server = Server(Service(one.pipe, settings), host=host, port=port)
        logging.getLogger("dimoo.serve").info("%s on http://%s:%d", one.pipe.tools.defaults.name, host, port)
        server.run()


def find_check(place: str) -> Any:
    """The function at MODULE:FUNCTION. ValueError if there is none."""
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--check {place}: no such MODULE:FUNCTION ({error})") from error
    if not callable(found):
        raise ValueError(f"--check {place} is no function")
    return found
