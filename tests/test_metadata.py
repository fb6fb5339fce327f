"""Requests written into pictures and read back: every task, every format, checked inputs, whole files only."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dimoo.metadata import (
    POLICIES,
    TASKS,
    Album,
    Source,
    check_writable,
    fingerprint,
    parameters_line,
    read_record,
    record,
    replacing,
    request_from_json,
    request_to_json,
    resolved,
    save_picture,
)
from dimoo.pipeline import Result
from dimoo.sampling.policies import DualCache, MLCache, RevealAware
from dimoo.sampling.settings import ImageSettings
from dimoo.tasks.base import Defaults, PictureOptions, Task, TextOptions
from dimoo.tasks.edit import Edit
from dimoo.tasks.paint import Inpaint, Outpaint
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tasks.understand import Message, Understand


@pytest.fixture
def album(tmp_path: Path) -> Album:
    for name, colour in (("one.png", "red"), ("two.png", "blue"), ("mask.png", "white")):
        Image.new("RGB", (32, 48), colour).save(tmp_path / name)
    return Album()


def requests(album: Album, folder: Path) -> list[Task]:
    one, two, mask = (album.open(folder / name) for name in ("one.png", "two.png", "mask.png"))
    ml = PictureOptions(policy=MLCache(cache_ratio=0.8), top_k=5, schedule="linear")
    return [
        TextToImage(prompt="a fox, with a comma: and a colon", height=64, seed=3, options=ml),
        Edit(picture=one, prompt="a", type="image_ref_transfer", reference=two, options=PictureOptions(cfg_img=2.0)),
        Inpaint(picture=one, prompt="a", mask=mask, paste=False, options=PictureOptions(policy=RevealAware())),
        Inpaint(picture=one, prompt="a", box=(0, 0, 16, 16)),
        Outpaint(picture=two, prompt="红狐狸", expand=(16, 0, 0, 16)),
        Understand(
            question="b",
            pictures=(two,),
            history=(Message(words="a", pictures=(one,), answer="yes"), Message(words="draw", answer=two)),
            options=TextOptions(policy=DualCache(refresh_interval=4), threshold=0.9),
        ),
    ]


def same(left: Any, right: Any) -> bool:
    """Equal, pictures by their pixels."""
    if isinstance(left, Image.Image):
        return isinstance(right, Image.Image) and left.tobytes() == right.tobytes()
    if isinstance(left, tuple):
        return isinstance(right, tuple) and len(left) == len(right) and all(map(same, left, right))
    if dataclasses.is_dataclass(left):
        names = [field.name for field in dataclasses.fields(left)]
        return type(left) is type(right) and all(same(getattr(left, name), getattr(right, name)) for name in names)
    return bool(left == right)


def test_every_task_survives_json(album: Album, tmp_path: Path) -> None:
    asked = requests(album, tmp_path)
    assert {type(request) for request in asked} == set(TASKS.values())
    for request in asked:
        text = json.dumps(request_to_json(request, album.source))
        back = request_from_json(json.loads(text), album.finder((tmp_path,)))
        assert same(request, back), request


def test_tables_name_every_policy() -> None:
    from dimoo.sampling import policies

    kinds = {value for value in vars(policies).values() if isinstance(value, type) and hasattr(value, "refresh")}
    assert set(POLICIES.values()) == kinds - {policies.Policy}


def test_an_input_is_found_by_name_and_checked_by_hash(album: Album, tmp_path: Path) -> None:
    values = request_to_json(Edit(picture=album.open(tmp_path / "one.png"), prompt="a"), album.source)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(ValueError, match=r"one\.png"):
        request_from_json(values, Album().finder((elsewhere,)))
    Image.new("RGB", (32, 48), "green").save(elsewhere / "one.png")
    with pytest.raises(ValueError, match="changed"):
        request_from_json(values, Album().finder((elsewhere,)))
    request_from_json(values, Album().finder((elsewhere, tmp_path)))
    given = Album().open(tmp_path / "two.png")
    assert request_from_json(values, Album().finder((elsewhere,)), instead={"picture": given}).picture is given  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"task": "paint"}, "paint"),
        ({"task": "t2i", "prompt": "a", "zoom": 3}, "zoom"),
        ({"task": "t2i"}, "prompt"),
        ({"task": "t2i", "prompt": "a", "options": {"part": "other"}}, "other"),
        ({"task": "t2i", "prompt": "a", "options": {"part": "picture_options", "policy": {"cache": "x"}}}, "x"),
        ({"task": "t2i", "prompt": "a", "options": {"steps": 3}}, "steps"),
    ],
)
def test_a_damaged_request_is_named(values: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        request_from_json(values, Album().finder(()))


def test_resolving_leaves_nothing_open(album: Album, tmp_path: Path) -> None:
    defaults = Defaults(
        height=128, width=96, steps=7, top_p=0.8, cfg_scale=3.0, edit_cfg_scale=1.5, edit_cfg_img=0.5, noise="exact",
    )  # fmt: skip
    drawn = resolved(TextToImage(prompt="a", options=PictureOptions(cfg_scale=0.0)), defaults)
    assert isinstance(drawn, TextToImage) and (drawn.height, drawn.width) == (128, 96)
    assert (drawn.options.steps, drawn.options.noise, drawn.options.cfg_scale) == (7, "exact", 0.0)
    other = Defaults(steps=9, cfg_scale=1.0)  # a later version of the checkpoint
    assert drawn.options.settings(other) == drawn.options.settings(defaults)
    uncut = resolved(TextToImage(prompt="a"), other)
    assert isinstance(uncut, TextToImage) and uncut.options.settings(defaults).top_p is None
    # Broken to try it: the record's schedule left as the request had it.
    preset = TextToImage(prompt="a", options=PictureOptions(preset="balanced"))
    named = resolved(preset, defaults)
    assert isinstance(named, TextToImage) and named.options.preset is None
    assert named.options.settings(defaults) == preset.options.settings(defaults)
    edited = resolved(Edit(picture=album.open(tmp_path / "one.png"), prompt="a"), defaults)
    assert isinstance(edited, Edit) and (edited.options.cfg_scale, edited.options.cfg_img) == (1.5, 0.5)
    curious = dataclasses.replace(defaults, edit_questions={"edit_add": "{prompt}?"})
    for recommended, found in ((curious, "{prompt}?"), (defaults, "")):
        edited = resolved(Edit(picture=album.open(tmp_path / "one.png"), prompt="a", type="edit_add"), recommended)
        assert isinstance(edited, Edit) and edited.ask_first == found
    asked = resolved(Understand(question="a"), defaults)
    assert isinstance(asked, Understand) and asked.options.settings(defaults) == TextOptions().settings(defaults)
    assert None not in (asked.options.steps, asked.options.answer_length, asked.options.block_length)


def made_of(request: Task, album: Album) -> dict[str, Any]:
    result = Result(
        request=request,
        picture=Image.new("RGB", (64, 32)),
        text=None,
        settings=ImageSettings(steps=4),
        seconds=1.0,
        steps=4,
    )
    return record(result, defaults=Defaults(), checkpoint={"name": "a, b", "fingerprint": "12"}, source=album.source)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_formats_give_back_the_record(album: Album, tmp_path: Path, suffix: str) -> None:
    made = made_of(requests(album, tmp_path)[4], album)
    path = tmp_path / f"new/picture{suffix}"
    save_picture(Image.new("RGB", (64, 32), "red"), path, made)
    assert read_record(path) == made
    assert Image.open(path).size == (64, 32)


def test_a_record_too_long_for_a_jpeg_lies_beside_it(album: Album, tmp_path: Path) -> None:
    made = made_of(TextToImage(prompt="a fox " * 6000), album)
    save_picture(Image.new("RGB", (64, 32), "red"), tmp_path / "long.jpg", made)
    assert Image.open(tmp_path / "long.jpg").size == (64, 32)
    assert read_record(tmp_path / "long.jpg") == made
    save_picture(Image.new("RGB", (64, 32), "red"), tmp_path / "long.jpg")
    with pytest.raises(ValueError, match="no record"):
        read_record(tmp_path / "long.jpg")
    (tmp_path / "long.jpg.json").write_text('{"of": "someone else"}')
    save_picture(Image.new("RGB", (64, 32), "red"), tmp_path / "long.jpg")
    assert (tmp_path / "long.jpg.json").exists()


def test_parameters_are_read_by_other_programs(album: Album, tmp_path: Path) -> None:
    made = made_of(TextToImage(prompt="a fox\nred", seed=5, options=PictureOptions(steps=4, cfg_scale=2.5)), album)
    save_picture(Image.new("RGB", (64, 32)), tmp_path / "a.png", made)
    lines = Image.open(tmp_path / "a.png").info["parameters"].splitlines()
    assert lines[:2] == ["a fox", "red"] and len(lines) == 3
    for pair in ("Steps: 4", "CFG scale: 2.5", "Seed: 5", "Size: 64x32", 'Model: "a, b"'):
        assert pair in lines[-1].replace('"a, b"', '"a, b"')
    assert parameters_line(made).count(": ") >= 3


def test_pictures_without_a_record(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(ValueError, match=r"plain\.png"):
        read_record(tmp_path / "plain.png")
    (tmp_path / "plain.png.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        read_record(tmp_path / "plain.png")
    (tmp_path / "plain.png.json").write_text("[]")
    with pytest.raises(ValueError, match="request"):
        read_record(tmp_path / "plain.png")


def test_fingerprints_tell_weights_apart(random_checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(random_checkpoint / "model.safetensors")
    save_file(weights, tmp_path / "model.safetensors")
    first = fingerprint(tmp_path)
    assert first == fingerprint(tmp_path) != fingerprint(random_checkpoint)
    weights["final_norm.weight"] = weights["final_norm.weight"] + torch.tensor(1e-3)
    save_file(weights, tmp_path / "model.safetensors")
    assert fingerprint(tmp_path) != first


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with replacing(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert oct(path.stat().st_mode & 0o700) == oct(0o600) and path.stat().st_mode & 0o111 == 0
    with pytest.raises(ValueError, match=r"a\.txt"):
        check_writable(path / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_locked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="locked"):
        check_writable(tmp_path / "locked")


def test_a_picture_from_nowhere_is_recorded_by_its_pixels() -> None:
    source = Album().source(Image.new("RGB", (2, 2)))
    assert isinstance(source, Source) and source.file == "" and len(source.sha256) == 64
