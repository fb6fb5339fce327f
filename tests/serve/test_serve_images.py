"""The images API by OpenAI's own client, against a running server."""

from __future__ import annotations

import json
import sys

import httpx
import numpy as np
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from PIL import Image
from serve_fixtures import alpha_mask, data_url, opened, picture, png

from dimoo import Inpaint, Outpaint, PictureOptions, TextToImage
from dimoo.pipeline import Pipeline
from dimoo.serve.app import Server
from dimoo.serve.pictures import normalise_mask
from dimoo.tasks.edit import Edit


def same(encoded: str, expected) -> bool:
    return np.array_equal(np.asarray(opened(encoded).convert("RGB")), np.asarray(expected))


def recorded(made) -> dict:
    """The request that a PNG carries."""
    return json.loads(opened(made.data[0].b64_json).text["dimoo"])["request"]


def test_a_picture_equals_the_pipelines(client: OpenAI, pipeline: Pipeline) -> None:
    made = client.images.generate(
        prompt="a red fox", size="96x64", extra_body={"seed": 5, "guidance_scale": 4.0, "num_inference_steps": 4}
    )
    request = TextToImage(prompt="a red fox", height=64, width=96, seed=5, options=PictureOptions(steps=4, cfg_scale=3))
    assert same(made.data[0].b64_json, pipeline.run(request).picture)
    assert (made.size, made.output_format, made.background) == ("96x64", "png", "opaque")
    assert made.usage.output_tokens == 24
    assert made.usage.total_tokens == made.usage.input_tokens + 24
    assert made.usage.input_tokens_details.text_tokens == made.usage.input_tokens


def test_presets(client: OpenAI, pipeline: Pipeline) -> None:
    made = client.images.generate(prompt="a fox", extra_body={"seed": 5, "preset": "fast"})
    request = TextToImage(prompt="a fox", seed=5, options=PictureOptions(preset="fast"))
    assert same(made.data[0].b64_json, pipeline.run(request).picture)


def test_n_pictures_have_consecutive_seeds_and_say_so(client: OpenAI, pipeline: Pipeline) -> None:
    made = client.images.generate(prompt="a fox", n=3, extra_body={"seed": 7})
    assert [one.seed for one in made.data] == [7, 8, 9]
    for one in made.data:
        assert same(one.b64_json, pipeline.run(TextToImage(prompt="a fox", seed=one.seed)).picture)


def test_without_a_seed_pictures_differ_and_can_be_made_again(client: OpenAI) -> None:
    first, second = (client.images.generate(prompt="a fox").data[0] for _ in range(2))
    assert not same(first.b64_json, opened(second.b64_json))
    again = client.images.generate(prompt="a fox", extra_body={"seed": first.seed}).data[0]
    assert same(again.b64_json, opened(first.b64_json))


def test_metadata_holds_the_request_and_nothing_of_the_input(client: OpenAI) -> None:
    made = client.images.generate(prompt="ein Fuchs 狐", extra_body={"seed": 5})
    asked = recorded(made)
    assert (asked["prompt"], asked["seed"], asked["task"]) == ("ein Fuchs 狐", 5, "t2i")
    source = picture()
    source.info["secret"] = "where I live"
    edited = opened(client.images.edit(image=png(source), prompt="red").data[0].b64_json)
    assert set(edited.text) == {"dimoo", "parameters"}
    assert "where" not in edited.text["dimoo"]


@pytest.mark.parametrize(("output_format", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_output_formats(client: OpenAI, output_format: str, kind: str) -> None:
    made = client.images.generate(prompt="a fox", output_format=output_format, output_compression=80)
    assert opened(made.data[0].b64_json).format == kind


def test_a_jpeg_of_very_long_words_is_sent_without_them(client: OpenAI) -> None:
    made = client.images.generate(prompt="🦊" * 8000, output_format="jpeg")
    assert opened(made.data[0].b64_json).format == "JPEG"


def test_nulls_are_as_if_left_out(server: Server) -> None:
    nothing = dict.fromkeys(("n", "stream", "quality", "output_format", "response_format", "partial_images", "seed"))
    answer = httpx.post(f"{server.url}/v1/images/generations", json={"prompt": "a fox", **nothing}, timeout=30)
    assert answer.status_code == 200 and len(answer.json()["data"]) == 1
    talk = {"messages": [{"role": "user", "content": "what?", "name": None}], "n": None, "stream": None}
    assert httpx.post(f"{server.url}/v1/chat/completions", json=talk, timeout=30).status_code == 200


def test_url_answers_are_data_urls(client: OpenAI) -> None:
    made = client.images.generate(prompt="a fox", response_format="url")
    assert made.data[0].url.startswith("data:image/png;base64,")


@pytest.mark.parametrize("partial", [0, 1, 3])
def test_streaming_sends_partial_images_and_then_the_same_picture(client: OpenAI, partial: int) -> None:
    whole = client.images.generate(prompt="a fox", extra_body={"seed": 1}).data[0].b64_json
    events = list(client.images.generate(prompt="a fox", stream=True, partial_images=partial, extra_body={"seed": 1}))
    assert [event.type for event in events[:-1]] == ["image_generation.partial_image"] * partial
    assert [event.partial_image_index for event in events[:-1]] == list(range(partial))
    assert events[-1].type == "image_generation.completed"
    assert same(events[-1].b64_json, opened(whole))
    assert events[-1].usage.output_tokens == 16
    for event in events[:-1]:
        assert opened(event.b64_json).size == (64, 64)


def test_streaming_several_pictures(client: OpenAI) -> None:
    events = list(client.images.generate(prompt="a fox", n=2, stream=True, partial_images=1, extra_body={"seed": 1}))
    completed = [event for event in events if event.type == "image_generation.completed"]
    assert sorted((event.image_index, event.seed) for event in completed) == [(0, 1), (1, 2)]


def test_edits_equal_the_pipelines(client: OpenAI, pipeline: Pipeline) -> None:
    source = picture()
    made = client.images.edit(image=png(source), prompt="make it blue", extra_body={"seed": 2, "edit_type": "edit"})
    expected = pipeline.run(Edit(picture=source, prompt="make it blue", seed=2)).picture
    assert same(made.data[0].b64_json, expected)
    assert made.usage.input_tokens_details.image_tokens > 16


def test_two_pictures_are_content_and_style(client: OpenAI, pipeline: Pipeline) -> None:
    content, style = picture(), picture(colour="green")
    made = client.images.edit(image=[png(content), png(style)], prompt="", extra_body={"seed": 2})
    request = Edit(picture=content, reference=style, type="image_ref_transfer", seed=2)
    assert same(made.data[0].b64_json, pipeline.run(request).picture)


def test_a_mask_changes_only_what_is_transparent(client: OpenAI, pipeline: Pipeline) -> None:
    source = picture()
    made = client.images.edit(
        image=png(source), mask=png(alpha_mask()), prompt="a hat", extra_body={"seed": 2, "softness": 0}
    )
    request = Inpaint(picture=source, mask=normalise_mask(alpha_mask()), prompt="a hat", seed=2, softness=0)
    assert same(made.data[0].b64_json, pipeline.run(request).picture)
    drawn, before = np.asarray(opened(made.data[0].b64_json)), np.asarray(source)
    assert np.array_equal(drawn[32:], before[32:])
    assert np.array_equal(drawn[:, 32:], before[:, 32:])
    assert not np.array_equal(drawn, before)


def test_edit_streams_with_a_mask(client: OpenAI) -> None:
    events = list(
        client.images.edit(image=png(picture()), mask=png(alpha_mask()), prompt="x", stream=True, partial_images=2)
    )
    assert [event.type for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]


def test_own_transparency_is_a_mask_unless_a_type_is_named(client: OpenAI, pipeline: Pipeline) -> None:
    source = picture()
    source.putalpha(alpha_mask().getchannel("A"))
    made = client.images.edit(image=png(source), prompt="a hat", extra_body={"seed": 2})
    assert recorded(made)["task"] == "inpaint"
    made = client.images.edit(image=png(source), prompt="a hat", extra_body={"seed": 2, "edit_type": "edit"})
    assert recorded(made)["task"] == "edit"


def test_outpainting_by_expand(client: OpenAI, pipeline: Pipeline) -> None:
    source = picture()
    made = client.images.edit(image=png(source), prompt="more", extra_body={"seed": 2, "expand": "0,16,0,32"})
    request = Outpaint(picture=source, prompt="more", expand=(0, 16, 0, 32), seed=2)
    assert same(made.data[0].b64_json, pipeline.run(request).picture)
    assert made.size == "96x80"


def test_a_size_with_a_mask_scales_both(client: OpenAI) -> None:
    made = client.images.edit(image=png(picture(128, 128)), mask=png(alpha_mask(128, 128)), prompt="x", size="64x64")
    assert made.size == "64x64"


def test_canny_from_a_photo(client: OpenAI) -> None:
    pytest.importorskip("cv2")
    extra = {"edit_type": "canny_control", "from_photo": True}
    assert client.images.edit(image=png(picture()), prompt="a ball", extra_body=extra).data[0].b64_json


def test_canny_without_opencv_is_refused(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    extra = {"edit_type": "canny_control", "from_photo": True}
    with pytest.raises(BadRequestError, match="OpenCV") as error:
        client.images.edit(image=png(picture()), prompt="a ball", extra_body=extra)
    assert error.value.param == "from_photo"


def test_edits_take_data_urls_as_other_servers_do(server: Server) -> None:
    for name in ("url", "url[]", "image"):
        answer = httpx.post(
            f"{server.url}/v1/images/edits", files={"prompt": (None, "red"), name: (None, data_url(picture()))}
        )
        assert answer.status_code == 200, answer.text


BAD_GENERATIONS = [
    ({"size": "100x100"}, "size", "invalid_value"),
    ({"size": "big"}, "size", "invalid_value"),
    ({"size": "1024x1024"}, "size", "size_too_large"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 11}, "n", "invalid_value"),
    ({"prompt": "  "}, None, "invalid_value"),
    ({"prompt": "a" * 8001}, "prompt", "string_above_max_length"),
    ({"output_format": "svg"}, "output_format", "invalid_value"),
    ({"background": "transparent"}, "background", "unsupported_parameter"),
    ({"extra_body": {"num_inference_steps": 1000}}, "num_inference_steps", "invalid_value"),
    ({"extra_body": {"negative_prompt": "ugly"}}, "negative_prompt", "unsupported_parameter"),
    ({"extra_body": {"cfg_scale": 2, "guidance_scale": 3}}, "cfg_scale", "invalid_value"),
    ({"extra_body": {"width": 64}}, "height", "invalid_value"),
    ({"extra_body": {"seed": "soon"}}, "seed", "invalid_value"),
    ({"extra_body": {"preset": "magic"}}, "preset", "invalid_value"),
    ({"extra_body": {"top_p": 0}}, "top_p", "invalid_value"),
    ({"extra_body": {"temperature": -1}}, "temperature", "invalid_value"),
]


@pytest.mark.parametrize(("arguments", "param", "code"), BAD_GENERATIONS)
def test_bad_generations(client: OpenAI, arguments: dict, param: str | None, code: str) -> None:
    with pytest.raises(BadRequestError) as error:
        client.images.generate(**{"prompt": "a fox", **arguments})
    assert (error.value.param, error.value.code) == (param, code)
    assert error.value.type == "invalid_request_error"
    assert error.value.request_id.startswith("req_")


def test_bad_requests_are_refused_before_a_stream_begins(client: OpenAI) -> None:
    with pytest.raises(BadRequestError):
        list(client.images.generate(prompt=" ", stream=True, partial_images=1))


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as error:
        client.images.generate(prompt="a fox", model="dall-e-2")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def edit_arguments() -> list:
    good = png(picture())
    empty = opaque_black()
    return [
        ({"image": b"no picture"}, "image", "invalid_image"),
        ({"image": good[: len(good) // 2]}, "image", "invalid_image"),
        ({"image": good, "mask": png(alpha_mask(32, 32))}, "mask", "mask_size_mismatch"),
        ({"image": good, "mask": empty}, "mask", "empty_mask"),
        ({"image": [good] * 3}, "image", "wrong_number_of_images"),
        ({"image": good, "extra_body": {"edit_type": "paint_it_black"}}, "edit_type", "invalid_value"),
        ({"image": good, "extra_body": {"expand": "1,2"}}, "expand", "invalid_value"),
        ({"image": good, "extra_body": {"expand": "0,0,0,999999"}}, "expand", "invalid_value"),
        ({"image": good, "extra_body": {"box": "0,0,100,100"}}, None, "invalid_value"),
        ({"image": good, "prompt": " "}, "prompt", "missing_prompt"),
    ]


def opaque_black() -> bytes:
    return png(Image.new("RGBA", (64, 64), (0, 0, 0, 255)))


@pytest.mark.parametrize(("arguments", "param", "code"), edit_arguments())
def test_bad_edits(client: OpenAI, arguments: dict, param: str | None, code: str) -> None:
    with pytest.raises(BadRequestError) as error:
        client.images.edit(**{"prompt": "red", **arguments})
    assert (error.value.param, error.value.code) == (param, code)


def test_masks_of_all_three_conventions_mean_the_same() -> None:
    transparent = alpha_mask()
    white = normalise_mask(transparent)
    black = white.point(lambda value: 255 - value)
    expected = np.zeros((64, 64), dtype=np.uint8)
    expected[:32, :32] = 255
    assert np.array_equal(np.asarray(white), expected)
    assert np.array_equal(np.asarray(normalise_mask(white)), expected)
    assert np.array_equal(np.asarray(normalise_mask(white.convert("RGBA"))), expected)
    assert np.array_equal(np.asarray(normalise_mask(white, "white")), expected)
    assert np.array_equal(np.asarray(normalise_mask(black, "black")), expected)
