"""`POST /v1/images/generations` and `/v1/images/edits`, as one JSON answer or as a stream with partial images."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from dimoo.page.page import Page
from dimoo.serve.errors import invalid
from dimoo.serve.fetch import Fetcher
from dimoo.serve.pictures import PictureReader, encode_picture, to_base64, to_data_url
from dimoo.serve.schema import (
    EditBody,
    ErrorBody,
    GenerationBody,
    ImageAnswer,
    ImageData,
    ImageUsage,
    InputDetails,
    Sampling,
)
from dimoo.serve.service import Service, log, request_id
from dimoo.serve.streams import KEEPALIVE, event, stream, while_connected
from dimoo.serve.translate import AnyTask
from dimoo.serve.worker import Finished, Stepped

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 404, 413, 415, 429, 500, 503, 504)
}


def image_routes(service: Service) -> APIRouter:
    """The two routes, bound to a service."""
    router = APIRouter(prefix="/v1/images", tags=["images"])

    @router.post("/generations", response_model=ImageAnswer, responses=ERRORS)
    async def generate(body: GenerationBody, request: Request) -> Response:
        """Words in, pictures out."""
        service.expect_model(body.model)
        report_unknown(body)
        return await answer(service, request, body, service.translator.generation(body), "image_generation")

    @router.post("/edits", response_model=ImageAnswer, responses=ERRORS, openapi_extra=EDIT_FORM)
    async def edit(request: Request) -> Response:
        """Pictures and words in, pictures out: edits, controls, inpainting, outpainting."""
        service.expect_room()
        try:
            async with read_form(request, service) as form:
                body, pictures, mask = await read_edit(form, service)
        except UnicodeError as error:  # a charset that does not exist, or does not fit
            raise invalid("the form's text cannot be read: send UTF-8") from error
        service.expect_model(body.model)
        report_unknown(body)
        tasks = await asyncio.to_thread(service.translator.edit, body, pictures, mask)  # large masks take a moment
        return await answer(service, request, body, tasks, "image_edit")

    return router


async def answer(service: Service, request: Request, body: Sampling, tasks: list[AnyTask], kind: str) -> Response:
    if body.stream:
        return await stream(request, _events(service, body, tasks, kind))
    finished = await while_connected(request, service.results(tasks))
    data = [await asyncio.to_thread(_data, service, body, one) for one in finished]
    picture = finished[0].result.picture
    assert picture is not None, "a picture was asked for"
    made = ImageAnswer(
        created=int(time.time()),
        output_format=body.output_format,
        quality=body.quality,
        size=f"{picture.width}x{picture.height}",
        data=data,
        usage=usage([one.page for one in finished]),
    )
    return JSONResponse(made.model_dump(exclude_none=True))


async def _events(service: Service, body: Sampling, tasks: list[AnyTask], kind: str) -> AsyncGenerator[bytes, None]:
    """`<kind>.partial_image` and `<kind>.completed` events; with several pictures each has its own."""
    sent = [0] * len(tasks)
    wanted = body.partial_images
    shared = {"quality": body.quality, "background": "opaque", "output_format": body.output_format}
    async with aclosing(service.events(tasks, steps=wanted > 0)) as events:
        async for index, step in events:
            if isinstance(step, Finished):
                made = await asyncio.to_thread(_encode, service, body, step)
                picture = step.result.picture
                assert picture is not None, "a picture was asked for"
                yield event(
                    {
                        "type": f"{kind}.completed",
                        "b64_json": to_base64(made),
                        "created_at": int(time.time()),
                        "size": f"{picture.width}x{picture.height}",
                        **shared,
                        "usage": usage([step.page]).model_dump(),
                        "image_index": index,
                        "seed": tasks[index].seed,
                    },
                    f"{kind}.completed",
                )
            elif isinstance(step, Stepped):
                if sent[index] >= wanted or (step.index + 1) * (wanted + 1) < (sent[index] + 1) * step.steps:
                    continue
                preview = service.previews.plain(step)
                made = await asyncio.to_thread(
                    encode_picture, preview, body.output_format, quality=body.output_compression
                )
                yield event(
                    {
                        "type": f"{kind}.partial_image",
                        "b64_json": to_base64(made),
                        "partial_image_index": sent[index],
                        "created_at": int(time.time()),
                        "size": f"{preview.width}x{preview.height}",
                        **shared,
                        "image_index": index,
                    },
                    f"{kind}.partial_image",
                )
                sent[index] += 1
            else:  # waiting, or just begun: the client hears that we are there
                yield KEEPALIVE


def _encode(service: Service, body: Sampling, one: Finished) -> bytes:
    assert one.result.picture is not None, "a picture was asked for"
    text = service.metadata(one.result)
    return encode_picture(one.result.picture, body.output_format, quality=body.output_compression, text=text)


def _data(service: Service, body: Sampling, one: Finished) -> ImageData:
    made = _encode(service, body, one)
    seed = one.result.request.seed
    if body.response_format == "url":
        return ImageData(url=to_data_url(made, body.output_format), seed=seed)
    return ImageData(b64_json=to_base64(made), seed=seed)


def usage(pages: Sequence[Page]) -> ImageUsage:
    """Ids of words and pictures that were read, and of pictures that were filled."""
    text = sum(len_of(page, "prompt") for page in pages)
    images = sum(len_of(page, "image") for page in pages)
    output = sum(int(page.writable.sum()) for page in pages)
    return ImageUsage(
        input_tokens=text + images,
        output_tokens=output,
        total_tokens=text + images + output,
        input_tokens_details=InputDetails(text_tokens=text, image_tokens=images),
    )


def len_of(page: Page, kind: str) -> int:
    return sum(span.stop - span.start for span in page.spans if span.kind == kind)


def report_unknown(body: Any) -> None:
    if body.unknown:
        log.warning("%s unknown parameters are ignored: %s", request_id.get(), repr(", ".join(body.unknown)[:200]))


def read_form(request: Request, service: Service) -> Any:
    """The multipart form, its parts bounded. An async context manager."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise HTTPException(415, "send multipart/form-data")
    limits = service.settings.limits
    return request.form(max_files=limits.pictures + 1, max_fields=128, max_part_size=max(limits.body_bytes, 1024))


PICTURE_FIELDS = ("image", "image[]", "url", "url[]")


async def read_edit(form: FormData, service: Service) -> tuple[EditBody, list[Image.Image], Image.Image | None]:
    """The form's fields, pictures (files or data URLs, in order) and mask."""
    limits = service.settings.limits
    reader = PictureReader(limits.picture_pixels, limits.pictures)
    fetcher = Fetcher(service.settings.remote_hosts, limits.body_bytes)
    fields: dict[str, str] = {}
    pictures: list[Image.Image] = []
    masks: list[Image.Image] = []
    for name, value in form.multi_items():
        if name in PICTURE_FIELDS or name == "mask":
            param = name.removesuffix("[]")
            if isinstance(value, UploadFile):
                data = await value.read()
            else:
                data = await fetcher.get(value, param)
            picture = await asyncio.to_thread(reader.read, data, param)
            (masks if name == "mask" else pictures).append(picture)
        elif isinstance(value, UploadFile):
            raise invalid(f"the field {name[:64]!r} takes no file", name[:64])
        else:
            fields[name] = value
    if len(masks) > 1:
        raise invalid("give one mask", "mask")
    try:
        body = EditBody.model_validate(fields)
    except ValidationError as error:
        raise invalid_fields(error) from error
    return body, pictures, masks[0] if masks else None


def invalid_fields(error: Any) -> Exception:
    """The first thing that is wrong with a body, as a client's error."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query")]
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    param = ".".join(place) or None
    return invalid(f"{param or 'the body'}: {first['msg']}", param, code)


_FILE = {"type": "string", "format": "binary"}
EDIT_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": _FILE, "image[]": {"type": "array", "items": _FILE}, "mask": _FILE}
                    | EditBody.model_json_schema(ref_template="#/components/schemas/{model}")["properties"],
                }
            }
        },
    }
}
