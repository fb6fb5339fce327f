"""Commands on checkpoints: info, verify, parity, convert. Heavy imports wait for the call."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dimoo.commands.console import say, show_table, write_report
from dimoo.commands.options import Dtype, Flag, JsonFile, PictureCache

if TYPE_CHECKING:
    from dimoo.model.config import ModelConfig

SizeName = Literal["8b", "medium", "small"]  # the keys of `model.config.SIZES` (a test compares)


def info(
    *,
    size: SizeName | None = None,
    checkpoint: str | None = None,
    height: int | None = None,
    width: int | None = None,
    steps: int | None = None,
    n: int = 1,
    cfg_scale: float | None = None,
    cache: PictureCache = "none",
    dtype: Dtype = "bfloat16",
    json: JsonFile = None,
) -> None:
    """Parameters, memory, FLOPs and seconds of a picture, worked out without loading a weight.

    Parameters
    ----------
    size
        A named size, without a checkpoint.
    checkpoint
        A checkpoint folder or a hub id; without it and --size, the default one.
    height
        Of the picture, in pixels.
    width
        Of the picture, in pixels.
    steps
        Of the picture.
    n
        Pictures filled together.
    cfg_scale
        Guidance; 0 costs half.
    cache
        Compute less in most steps.
    dtype
        Of the weights, for memory at work and seconds.
    """
    if size is not None and checkpoint is not None:
        raise ValueError(f"give --size {size} or --checkpoint {checkpoint}, not both")
    described, report = _describe(
        size, checkpoint, height=height, width=width, steps=steps, n=n, scale=cfg_scale, cache=cache, dtype=dtype
    )
    show_table(described)
    write_report(json, report)


def verify(
    checkpoint: str | None = None,
    /,
    *,
    picture: Path | None = None,
    no_sample: Annotated[bool, Flag] = False,
    json: JsonFile = None,
) -> int:
    """Check a checkpoint before anything else is done with it; a report to share.

    Special ids against the tokenizer (fast, then slow), every tensor's shape and finiteness, a round trip of a picture
    through the VQ model, one short sample. Exit code 1 if a check fails.

    Parameters
    ----------
    checkpoint
        A checkpoint folder or a hub id; without it, the default one.
    picture
        For the round trip; without it, a drawn one.
    no_sample
        Leave out the sample, which loads the whole model.
    """
    from dimoo.commands.session import checkpoint_folder
    from dimoo.eval.verify import machine, run
    from dimoo.metadata import fingerprint
    from dimoo.tokenizers.resize import open_picture

    shown = None if picture is None else open_picture(picture)
    checks = []
    with checkpoint_folder(checkpoint) as folder:
        for check in run(folder, picture=shown, sample=not no_sample):
            mark = {True: "ok    ", False: "FAILED", None: "-     "}[check.ok]
            say(f"{mark} {check.name}: {check.detail}")
            checks.append(check)
        failed = [check.name for check in checks if check.ok is False]
        report = {
            "checkpoint": {"name": folder.name, "fingerprint": fingerprint(folder)},
            "machine": machine(),
            "ok": not failed,
            "checks": [dataclasses.asdict(check) for check in checks],
        }
    for name, value in machine().items():
        say(f"       {name}: {value}")
    passed, left_out = sum(check.ok is True for check in checks), sum(check.ok is None for check in checks)
    say(f"{passed}/{len(checks) - left_out} passed, {left_out} left out")
    write_report(json, report)
    return 1 if failed else 0


def parity(folder: Path, /, *, json: JsonFile = None) -> int:
    """Compare with the answers that the authors' code gave; exit code 1 unless all agree.

    Parameters
    ----------
    folder
        A fixture: a checkpoint in the authors' layout with golden.json and golden.safetensors.
    """
    from dimoo.eval.parity import run

    results = run(folder)
    for result in results:
        mark = "ok    " if result.ok else "FAILED"
        say(f"{mark} {result.name:<16} {result.compared}: largest difference {result.difference:.3g}")
    passed = sum(result.ok for result in results)
    say(f"{passed}/{len(results)}")
    names = ("name", "compared", "difference", "ok", "seconds")
    cases = [{name: getattr(result, name) for name in names} for result in results]
    write_report(json, {"passed": passed, "of": len(results), "cases": cases})
    return 0 if passed == len(results) else 1


def convert(
    source: str,
    destination: Path,
    /,
    *,
    layout: Literal["authors", "dimoo"],
    dtype: Dtype | None = None,
) -> None:
    """Write a checkpoint anew, under the authors' tensor names or ours; tokenizers and VQ model go with it.

    Parameters
    ----------
    source
        A checkpoint folder or a hub id.
    destination
        A folder that is not there yet.
    layout
        Whose names.
    dtype
        Of the weights; without it, as they are stored.
    """
    import torch

    from dimoo.model.checkpoint import find
    from dimoo.model.convert import convert_checkpoint

    folder = find(source)
    convert_checkpoint(folder, destination, layout=layout, dtype=None if dtype is None else getattr(torch, dtype))
    say(destination)


def _describe(
    size: str | None,
    checkpoint: str | None,
    *,
    height: int | None,
    width: int | None,
    steps: int | None,
    n: int,
    scale: float | None,
    cache: str,
    dtype: str,
) -> tuple[dict[str, object], dict[str, Any]]:
    """What `info` prints, and the same as plain numbers."""
    import torch

    from dimoo.commands.session import checkpoint_folder
    from dimoo.eval import size as sizes
    from dimoo.metadata import POLICIES
    from dimoo.model.checkpoint import load_config, read_json
    from dimoo.model.config import SIZES
    from dimoo.pipeline import pick_device
    from dimoo.sampling.settings import ImageSettings
    from dimoo.tasks.base import Defaults
    from dimoo.tokenizers.resize import check_size
    from dimoo.vocab import AUTHORS_SIZE, Vocab, authors_vocab

    vq: dict[str, Any] | None = None
    if size is not None:
        config, defaults, name = SIZES[size], Defaults(), size
        vocab = authors_vocab() if config.vocab_size == AUTHORS_SIZE else sizes.named_vocab(config)
    else:
        with checkpoint_folder(checkpoint) as folder:
            config, defaults, vocab = load_config(folder), Defaults.load(folder), Vocab.load(folder)
            vq = read_json(folder / "vqvae" / "config.json")
            name = defaults.name
    factor = 16 if vq is None else sizes.vq_factor(vq)
    height, width, steps = height or defaults.height, width or defaults.width, steps or defaults.steps
    check_size(height, width, factor)
    if n < 1:
        raise ValueError(f"--n must be at least 1, got {n}")
    kind = getattr(torch, dtype)
    guided = sizes.picture_pages(vocab, height, width, factor, scale=defaults.cfg_scale if scale is None else scale)
    cost = sizes.sampling_cost(config, [guided] * n, ImageSettings(steps=steps, policy=POLICIES[cache]()), kind)
    if vq is not None:
        drawn = sizes.decoding_cost(vq, height // factor, width // factor)
        cost += dataclasses.replace(drawn, flops=n * drawn.flops)
    weights = {name: sizes.weight_bytes(config, getattr(torch, name)) for name in ("float32", "bfloat16", "int8")}
    device = pick_device("auto")
    seconds = sizes.expected_seconds(cost, sizes.measure_speed(device, kind))
    peak = sizes.weight_bytes(config, kind) + cost.working_bytes
    report = {
        "name": name,
        "parameters": config.parameters,
        "weight_bytes": weights,
        "height": height,
        "width": width,
        "steps": steps,
        "n": n,
        "cache": cache,
        "dtype": dtype,
        "flops": cost.flops,
        "peak_bytes": peak,
        "seconds": seconds,
        "device": device.type,
        "with_vq": vq is not None,
    }
    return _rows(config, report), report


def _rows(config: ModelConfig, report: dict[str, Any]) -> dict[str, object]:
    shape = f"{config.n_layers} layers, width {config.d_model}, {config.n_heads} heads, {config.vocab_size:,} ids"
    what = f"{report['height']} x {report['width']} (height x width), {report['steps']} steps"
    return {
        "model": report["name"],
        "parameters": f"{report['parameters']:,}",
        "shape": shape,
        **{f"weights, {name}": _gigabytes(size) for name, size in report["weight_bytes"].items()},
        "picture": what + ("" if report["n"] == 1 else f", {report['n']} together"),
        "peak memory": f"{_gigabytes(report['peak_bytes'])} in {report['dtype']}, cache {report['cache']}",
        "FLOPs": _flops(report["flops"]) + ("" if report["with_vq"] else ", without the VQ model"),
        "time here": f"about {_duration(report['seconds'])} on {report['device']}",
    }


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _flops(flops: int) -> str:
    return f"{flops / 1e15:.2f} PFLOP" if flops >= 1e14 else f"{flops / 1e9:.1f} GFLOP"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{max(seconds, 1):.0f} seconds"
