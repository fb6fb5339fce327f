"""The command line: every verb does its work, bad input ends in one line and exit code 2, nothing is half-written."""

import dataclasses
import io
import json
import resource
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dimoo.cli import COMMANDS, main
from dimoo.commands.draw import EditName
from dimoo.commands.weights import SizeName
from dimoo.metadata import read_record
from dimoo.model.config import SIZES
from dimoo.pipeline import Pipeline
from dimoo.tasks.edit import EDIT_TYPES


@pytest.fixture
def run(random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Any:
    """Run a command in an empty folder on the random checkpoint: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, checkpoint: object = random_checkpoint) -> tuple[int, str, str]:
        given = [str(argument) for argument in arguments]
        if checkpoint is not None:
            given += ["--checkpoint", str(checkpoint)]
        code = main(given)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 96 x 64 pixels (height x width)."""
    path = tmp_path / "photo.png"
    gradient = Image.linear_gradient("L").resize((64, 96))
    Image.merge("RGB", [gradient, gradient.transpose(Image.Transpose.FLIP_TOP_BOTTOM), gradient]).save(path)
    return path


def pixels(path: Path | str) -> bytes:
    with Image.open(path) as picture:
        return picture.convert("RGBA").tobytes()


def fails(result: tuple[int, str, str], *words: str, code: int = 2) -> None:
    """The result is an error in one line that says all these words."""
    got, _, err = result
    assert got == code
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_help_is_quick_and_lists_every_command() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "dimoo.cli", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 0.5, "seconds of work"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dimoo.cli import main; main(['--help']); main(['t2i', '--help']); print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    for heavy in ("torch", "numpy", "transformers", "diffusers", "PIL", "pydantic"):
        assert f"'{heavy}'" not in modules


def test_listed_names_are_the_tables() -> None:
    assert set(EditName.__args__) == set(EDIT_TYPES)
    assert set(SizeName.__args__) == set(SIZES)


def test_t2i_writes_where_it_says(run: Any) -> None:
    code, out, err = run("t2i", "a red fox", "--seed", 3)
    path = Path(out.strip())
    assert code == 0 and err == ""
    assert path.parent == Path("out") and "a-red-fox" in path.name and path.name.endswith("-3.png")
    assert Image.open(path).size == (64, 64)
    second = Path(run("t2i", "a red fox", "--seed", 3)[1].strip())
    assert second != path, "nothing is overwritten"
    assert pixels(second) == pixels(path), "the same seed gives the same picture"


def test_a_batch_gives_what_singles_give(run: Any) -> None:
    _, out, _ = run("t2i", "a fox", "-o", "fox.png", "--n", 2, "--seed", 7, "--height", 64, "--width", 96)
    assert out.split() == ["fox-7.png", "fox-8.png"]
    run("t2i", "a fox", "-o", "single.png", "--seed", 8, "--height", 64, "--width", 96)
    assert pixels("fox-8.png") == pixels("single.png")
    assert pixels("fox-7.png") != pixels("fox-8.png")


def test_a_picture_repeats_its_request(run: Any) -> None:
    run("t2i", "a fox", "-o", "first.png", "--seed", 4, "--steps", 3, "--cache", "ml_cache", "--top-k", 9)
    code, _, err = run("t2i", "--from-image", "first.png", "-o", "again.png")
    assert (code, err) == (0, "")
    assert pixels("again.png") == pixels("first.png")
    assert read_record(Path("again.png"))["request"] == read_record(Path("first.png"))["request"]
    run("t2i", "--from-image", "first.png", "-o", "quick.png", "--preset", "fast", "--steps", 2)
    quick = read_record(Path("quick.png"))["request"]["options"]
    assert (quick["steps"], quick["schedule"], quick["reuse"]["every"], quick["top_k"]) == (2, "circle", 2, 9)
    run("t2i", "--from-image", "first.png", "-o", "other.png", "--seed", 5)
    assert pixels("other.png") != pixels("first.png")
    assert read_record(Path("other.png"))["request"]["options"]["top_k"] == 9


def test_an_edit_repeats_only_with_the_same_input(run: Any, photo: Path) -> None:
    run("edit", photo, "add a cat", "--type", "edit_add", "-o", "edit.png")
    assert run("edit", "--from-image", "edit.png", "-o", "again.png")[0] == 0
    assert pixels("again.png") == pixels("edit.png")
    fails(run("t2i", "--from-image", "edit.png"), "edit")
    Image.new("RGB", (64, 96)).save(photo)
    fails(run("edit", "--from-image", "edit.png", "-o", "third.png"), "photo.png")
    assert run("edit", photo, "--from-image", "edit.png", "-o", "fourth.png")[0] == 0


def test_a_repeated_inpainting_takes_another_mask(run: Any, photo: Path) -> None:
    Image.new("L", Image.open(photo).size, 255).save("mask.png")
    assert run("inpaint", photo, "a cat", "--mask", "mask.png", "-o", "in.png")[0] == 0
    Path("mask.png").unlink()
    assert run("inpaint", "--from-image", "in.png", "--box", 0, 0, 16, 16, "-o", "corner.png")[0] == 0
    request = read_record(Path("corner.png"))["request"]
    assert request["mask"] is None and request["box"] == [0, 0, 16, 16]


def test_no_metadata_means_none(run: Any) -> None:
    run("t2i", "a secret", "-o", "plain.png", "--no-metadata")
    assert b"secret" not in Path("plain.png").read_bytes()
    fails(run("inspect", "plain.png", checkpoint=None), "plain.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_inspect_reads_what_was_written(run: Any, suffix: str) -> None:
    run("t2i", "a fox", "-o", f"fox{suffix}", "--seed", 11)
    code, out, _ = run("inspect", f"fox{suffix}", "--json", "report.json", checkpoint=None)
    assert code == 0 and "a fox" in out and "11" in out
    made = json.loads(Path("report.json").read_text())
    assert made["request"]["prompt"] == "a fox" and made["request"]["options"]["steps"] == 6
    assert made["checkpoint"]["fingerprint"] and made["versions"]["torch"] == torch.__version__


def test_save_steps_writes_strip_and_animation(run: Any) -> None:
    _, out, _ = run("t2i", "a fox", "-o", "fox.png", "--save-steps")
    assert out.split() == ["fox.png", "fox.steps.png", "fox.steps.webp"]
    assert Image.open("fox.steps.webp").n_frames == 6
    assert Image.open("fox.steps.png").width > 5 * 64


def test_edit_types_with_fixed_words_and_references(run: Any, photo: Path) -> None:
    assert run("edit", photo, "--type", "canny_pred", "-o", "map.png")[0] == 0
    assert run("edit", photo, "--type", "image_ref_transfer", "--reference", photo, "-o", "style.png")[0] == 0
    fails(run("edit", photo, "--type", "image_ref_transfer"), "reference")
    fails(run("edit", photo, "a", "--type", "edit_everything"), "edit_everything", "edit_add", "canny_pred")
    fails(run("edit", photo, "a", "--reference", photo), "reference")


def test_inpaint_keeps_what_is_outside(run: Any, photo: Path) -> None:
    assert run("inpaint", photo, "a cat", "--box", 32, 16, 32, 32, "--softness", 0, "-o", "painted.png")[0] == 0
    before, after = Image.open(photo), Image.open("painted.png").convert("RGB")
    assert before.crop((0, 0, 64, 32)).tobytes() == after.crop((0, 0, 64, 32)).tobytes()
    assert before.crop((16, 32, 48, 64)).tobytes() != after.crop((16, 32, 48, 64)).tobytes()
    mask = Image.new("L", (64, 96))
    mask.paste(255, (16, 32, 48, 64))
    mask.save("mask.png")
    run("inpaint", photo, "a cat", "--mask", "mask.png", "--softness", 0, "-o", "masked.png")
    assert pixels("masked.png") == pixels("painted.png")
    mask.resize((32, 32)).save("small.png")
    fails(run("inpaint", photo, "a cat", "--mask", "small.png"), "32 x 32", "96 x 64")
    fails(run("inpaint", photo, "a cat"), "mask", "box", "ratios")


def test_outpaint_grows_the_canvas(run: Any, photo: Path) -> None:
    assert run("outpaint", photo, "a cat", "--expand", 16, 0, 0, 20, "-o", "wide.png")[0] == 0
    assert Image.open("wide.png").size == (96, 112)
    fails(run("outpaint", photo, "a cat"), "--expand")
    fails(run("outpaint", photo, "a cat", "--expand", 0, 0, 0, 0), "expand")


def test_understand_takes_any_number_of_pictures(run: Any, photo: Path) -> None:
    answers = []
    for pictures in ([], [photo], [photo, photo]):
        code, out, _ = run("understand", *pictures, "What is it?", "--json", "answer.json")
        assert code == 0
        answers.append(json.loads(Path("answer.json").read_text()))
        assert answers[-1]["answer"].strip() == out.strip()
    assert [len(answer["request"]["pictures"]) for answer in answers] == [0, 1, 2]
    fails(run("understand"), "question")
    fails(run("understand", "What?", "--block-length", 7), "7", "16")
    fails(run("understand", "What?", "--block-length", 8, "--steps", 3), "3", "2")
    fails(run("understand", "  "), "question", "empty")


def test_chat_talks_until_the_input_ends(run: Any, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.StringIO(f"hello\n\n/image nowhere.png\n/image {photo}\nand this?\n/new\nhello\n")
    )
    code, out, err = run("chat")
    lines = out.splitlines()
    assert code == 0 and "nowhere.png" in err
    assert len(lines) >= 3 and lines[0] == lines[-1], "after /new the first question has the first answer again"


def test_canny_writes_a_map(run: Any, photo: Path) -> None:
    code, out, _ = run("canny", photo, checkpoint=None)
    assert code == 0 and Image.open(out.strip()).size == (64, 96)
    fails(run("canny", photo, "--low", 300, checkpoint=None), "300")


def test_info_knows_the_big_model(run: Any) -> None:
    code, out, _ = run("info", "--size", "8b", "--steps", 2, "--json", "info.json", checkpoint=None)
    assert code == 0 and "8,081,805,312" in out
    report = json.loads(Path("info.json").read_text())
    assert report["parameters"] == 8_081_805_312 and report["peak_bytes"] <= 20e9
    fails(run("info", "--size", "huge", checkpoint=None), "huge", "8b")


def test_info_on_a_checkpoint(run: Any) -> None:
    code, out, _ = run("info")
    assert code == 0 and "random weights" in out
    fails(run("info", "--height", 65), "65", "64", "80")


def test_convert_there_and_back(run: Any, random_checkpoint: Path) -> None:
    assert run("convert", random_checkpoint, "theirs", "--layout", "authors", checkpoint=None)[0] == 0
    assert run("convert", "theirs", "ours", "--layout", "dimoo", checkpoint=None)[0] == 0
    assert "model.transformer.wte.weight" in load_file("theirs/model.safetensors")
    ours, first = load_file("ours/model.safetensors"), load_file(random_checkpoint / "model.safetensors")
    assert ours.keys() == first.keys() and all(torch.equal(ours[name], first[name]) for name in ours)
    run("t2i", "a fox", "-o", "first.png")
    run("t2i", "a fox", "-o", "theirs.png", checkpoint="theirs")
    assert pixels("first.png") == pixels("theirs.png")
    fails(run("convert", random_checkpoint, "ours", "--layout", "dimoo", checkpoint=None), "ours")


def test_verify_passes_and_finds_faults(run: Any, random_checkpoint: Path) -> None:
    code, out, _ = run("verify", random_checkpoint, "--json", "good.json", checkpoint=None)
    assert code == 0, out
    assert json.loads(Path("good.json").read_text())["ok"]
    broken = shutil.copytree(random_checkpoint, "broken")
    weights = load_file(Path(broken) / "model.safetensors")
    weights["final_norm.weight"][0] = torch.nan
    weights["blocks.0.down.weight"] = weights["blocks.0.down.weight"][:-1].clone()
    save_file(weights, Path(broken) / "model.safetensors")
    vocab = json.loads((Path(broken) / "vocab.json").read_text())
    vocab["boi"], vocab["eoi"] = vocab["eoi"], vocab["boi"]
    (Path(broken) / "vocab.json").write_text(json.dumps(vocab))
    code, out, _ = run("verify", broken, "--json", "bad.json", checkpoint=None)
    checks = {check["name"]: check for check in json.loads(Path("bad.json").read_text())["checks"]}
    assert code == 1
    assert checks["tensors"]["ok"] is False and checks["vq round trip"]["ok"] is True and checks["sample"]["ok"] is None
    assert "final_norm.weight" in checks["tensors"]["detail"] and "blocks.0.down.weight" in checks["tensors"]["detail"]
    assert "boi" in checks["tokenizer, fast"]["detail"]


def test_demo_runs_without_a_shipped_model(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dimoo.commands.session.SHIPPED", tmp_path / "none")
    code, out, err = run("demo", checkpoint=None)
    assert code == 0 and "random" in err
    assert Path("demo/picture.png").is_file() and Path("demo/edit.png").is_file()
    assert len([line for line in out.splitlines() if line.startswith("  dimoo ")]) == 3


def test_a_small_model_says_what_it_never_saw(run: Any, random_checkpoint: Path, photo: Path) -> None:
    folder = Path(shutil.copytree(random_checkpoint, "stickers"))
    (folder / "words.json").write_text(json.dumps({"domain": "stickers", "words": ["a", "red", "fox"]}))
    _, out, err = run("t2i", "a red foxx", checkpoint=folder)
    assert "foxx" in err and "fox?" in err and out
    noise = torch.randint(256, (96, 64, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(photo)
    assert "photograph" in run("understand", photo, "a fox", checkpoint=folder)[2]
    assert run("t2i", "a red fox", checkpoint=folder)[2] == ""


def test_transparent_cuts_the_drawing_out(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Pipeline.finish

    def drawn(self: Pipeline, *arguments: Any) -> Any:
        picture = Image.new("RGB", (64, 64), "white")
        picture.paste((200, 0, 0), (20, 20, 40, 40))
        return dataclasses.replace(whole(self, *arguments), picture=picture)

    monkeypatch.setattr(Pipeline, "finish", drawn)
    assert run("t2i", "a square", "--transparent", "-o", "square.png")[0] == 0
    alpha = Image.open("square.png").getchannel("A")
    assert alpha.getpixel((2, 2)) == 0 and alpha.getpixel((30, 30)) == 255
    run("t2i", "--from-image", "square.png", "-o", "again.png")
    assert pixels("again.png") == pixels("square.png"), "a repeated request is cut out, too"


def test_weights_that_do_not_fit_are_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dimoo.commands.session.free_memory", lambda device: 1000)
    fails(run("t2i", "a fox"), "weights", "GB")
    fails(run("t2i", "a fox", "--device", "toaster"), "toaster")
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    fails(run("t2i", "a fox", "--device", absent), absent)
    fails(run("bench", "--size", "medium", "--device", "toaster", checkpoint=None), "toaster")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paint", "a fox"], ["paint", "inpaint"]),
        (["t2i"], ["PROMPT"]),
        (["t2i", " "], ["prompt", "empty"]),
        (["t2i", "a", "--height", "65"], ["height", "65", "64", "80"]),
        (["t2i", "a", "--height", "0"], ["height", "0"]),
        (["t2i", "a", "--height", "1600000", "--width", "1600000"], ["1600000", "GB"]),
        (["t2i", "a", "--steps", "0"], ["steps", "0"]),
        (["t2i", "a", "--n", "0"], ["0"]),
        (["t2i", "a", "--top-p", "2"], ["top_p", "2"]),
        (["t2i", "a", "--cache", "all"], ["all", "ml_cache"]),
        (["t2i", "a", "--temperature", "-1"], ["-1"]),
        (["t2i", "a", "--cfg-scale", "nan"], ["scale", "nan"]),
        (["t2i", "a", "--seed", str(2**64)], ["seed", str(2**64)]),
        (["t2i", "a", "--stepz", "3"], ["--stepz"]),
        (["t2i", "a", "-o", "x.doc"], [".doc", ".png"]),
        (["t2i", "a", "-o", "file.txt/x.png"], ["file.txt"]),
        (["t2i", "a", "--transparent", "-o", "x.jpg"], ["x.jpg"]),
        (["t2i", "--from-image", "nowhere.png"], ["nowhere.png"]),
        (["edit", "nowhere.png", "a"], ["nowhere.png"]),
        (["edit", "file.txt", "a"], ["file.txt"]),
        (["edit", "short.png", "a"], ["short.png"]),
        (["edit", "bomb.png", "a"], ["bomb.png"]),
    ],
)
def test_bad_input_ends_in_one_line(run: Any, photo: Path, arguments: list[str], words: list[str]) -> None:
    Path("file.txt").write_text("no picture")
    whole = photo.read_bytes()
    Path("short.png").write_bytes(whole[: len(whole) // 2])
    claims = bytearray(photo.read_bytes())
    claims[16:24] = (20_000).to_bytes(4) * 2  # width and height, as the header has them
    claims[29:33] = zlib.crc32(claims[12:29]).to_bytes(4)
    Path("bomb.png").write_bytes(claims)
    before = {path for path in Path().rglob("*") if path.is_file()}
    fails(run(*arguments), *words)
    assert {path for path in Path().rglob("*") if path.is_file()} == before, "nothing is half-written"


def _remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _name_a_missing_shard(folder: Path) -> None:
    names = dict.fromkeys(load_file(folder / "model.safetensors"), "model-00002-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def _spoil_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embedding.weight"][5, 5] = torch.nan
    save_file(weights, folder / "model.safetensors")


def _misshape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["blocks.1.qkv.weight"] = weights["blocks.1.qkv.weight"][:, :-1].contiguous()
    save_file(weights, folder / "model.safetensors")


def _cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def _drop_the_vq(folder: Path) -> None:
    shutil.rmtree(folder / "vqvae")


def _spoil_the_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_remove_weights, ["model.safetensors"]),
        (_name_a_missing_shard, ["model-00002-of-00002.safetensors"]),
        (_spoil_a_weight, ["embedding.weight", "NaN"]),
        (_misshape, ["blocks.1.qkv.weight", "31", "32"]),
        (_cut_short, ["model.safetensors"]),
        (_drop_the_vq, ["vqvae"]),
        (_spoil_the_config, ["config.json"]),
    ],
)
def test_a_spoilt_checkpoint_is_named(run: Any, random_checkpoint: Path, spoil: Any, words: list[str]) -> None:
    folder = Path(shutil.copytree(random_checkpoint, "spoilt"))
    spoil(folder)
    fails(run("t2i", "a fox", checkpoint=folder), *words)


def test_what_is_no_checkpoint(run: Any, tmp_path: Path) -> None:
    fails(run("t2i", "a fox", checkpoint="./nowhere"), "nowhere")
    (tmp_path / "empty").mkdir()
    fails(run("t2i", "a fox", checkpoint="empty"), "empty")


def test_an_interrupt_leaves_nothing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Pipeline.fill

    def interrupted(self: Pipeline, prepared: Any) -> Iterator[Any]:
        yield next(whole(self, prepared))
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "fill", interrupted)
    fails(run("t2i", "a fox", "-o", "fox.png", "--save-steps"), "interrupted", code=130)
    assert not list(Path().iterdir())


def test_a_write_that_fails_leaves_the_old_file(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("fox.png").write_bytes(b"old")

    def full(self: Image.Image, file: Any, *args: Any, **kwargs: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    fails(run("t2i", "a fox", "-o", "fox.png"), "No space left")
    assert Path("fox.png").read_bytes() == b"old" and len(list(Path().iterdir())) == 1


def test_a_run_too_large_or_too_long_says_so_first(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dimoo.commands.session.QUICK_FLOPS", 0)
    monkeypatch.setattr("dimoo.commands.session.LONG", 0.0)
    code, _, err = run("t2i", "a fox", "-o", "fox.png")
    assert code == 0 and "minutes" in err
    monkeypatch.setattr("dimoo.commands.session.free_memory", lambda device: 20_000)
    fails(run("t2i", "a fox", "-o", "none.png"), "GB")
    assert not Path("none.png").exists()
