"""The bench: every way runs, the twin agrees, scores are kept and paired, the chart is drawn."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_fixtures import asked, config, drawn, edited, leaning, small_model
from PIL import Image

from dimoo.eval import bench
from dimoo.eval.bench import Row, Way
from dimoo.eval.chart import chart
from dimoo.eval.scores import mean
from dimoo.sampling.settings import ImageSettings
from dimoo.tasks.base import Defaults

MODEL = small_model()


@pytest.mark.parametrize(
    ("task", "cases"),
    [
        ("t2i", [drawn(6, 3, 3, 1), drawn(5, 2, 4, 2)]),
        ("edit", [edited(5, 3, 3, 1)]),
        ("understand", [asked(5, 64, 1)]),
    ],
)
def test_every_way_is_measured_and_the_twin_agrees(task: str, cases: list) -> None:
    # Broken to try it: our samplers given another seed than the twin.
    chosen = bench.ways(task, 4 if task != "understand" else 8)
    rows, same = bench.measure(MODEL, chosen, cases, repeats=1)
    assert [row.name for row in rows] == [way.name for way in chosen]
    assert all(row.seconds > 0 and row.flops > 0 and row.peak_bytes > 0 and len(row.times) == 1 for row in rows)
    assert same and all(same.values())
    named = {row.name: row for row in rows}
    assert named["twin"].flops > named[f"plain {4 if task != 'understand' else 8}"].flops


def test_the_twin_of_answers_takes_every_step_and_ours_ends_early() -> None:
    """The released early stop never works: a twin with one would be faster than the code that it stands for."""
    # Broken to try it: early_stop left to its default for the twin.
    chosen = [way for way in bench.ways("understand", 64) if way.name in ("twin", "plain 64, to the end", "plain 64")]
    rows, same = bench.measure(leaning(1, answer_end=60.0), chosen, [asked(5, 64, 1)], repeats=1)
    steps = {row.name: row.steps for row in rows}
    assert steps["twin"] == steps["plain 64, to the end"] == 64 > steps["plain 64"] and same["twin"]


def test_names_are_used_once() -> None:
    for task in ("t2i", "edit", "understand"):
        names = [way.name for way in bench.ways(task, 64)]
        assert len(names) == len(set(names))


def test_ways_are_selected_by_how_their_names_begin() -> None:
    # Broken to try it: unknown parts ignored.
    found = bench.ways("t2i", 64)
    names = [way.name for way in bench.select(found, "plain 16; top_p .8, 8", 64)]
    assert names == ["twin", "plain 64", "plain 16", "top_p .8, 8"]
    assert bench.select(found, None, 64) == found
    names = [way.name for way in bench.select(bench.ways("understand", 64), "dual, entropy", 64)]
    assert names == ["twin", "plain 64, to the end", "plain 64", "dual, entropy .1"]
    for wrong in ("plane", "plain 16;"):
        with pytest.raises(ValueError, match=r"begins with .*; they begin with twin; .*reuse 4"):
            bench.select(found, wrong, 64)


def test_random_weights_have_a_page_of_each_task() -> None:
    model = bench.random_model(config(vocab_size=256), torch.float32)
    for task in ("t2i", "edit", "understand"):
        cases = bench.random_cases(task, config(vocab_size=256), 64)
        rows, same = bench.measure(model, bench.ways(task, 64)[:2], cases, repeats=1)
        assert len(rows) == 2 and all(same.values())


def test_a_batch_is_timed_beside_its_singles() -> None:
    found = bench.measure_batch(MODEL, ImageSettings(steps=2), [drawn(4, 2, 2, 1)] * 3, repeats=1)
    assert found["size"] == 3 and found["alone"] > 0 and found["together"] > 0


def test_differences_are_between_pairs() -> None:
    rows = [
        Row(name=name, steps=1, seconds=1.0, times=(1.0,), flops=1, peak_bytes=1) for name in ("twin", "plain 4", "x")
    ]
    scores = {"plain 4": [1.0, 0.0, 1.0, 1.0], "x": [0.0, 1.0, 1.0, 1.0]}
    first, plain, other = bench.scored(rows, scores, "plain 4")
    assert first.score is None and plain.score == mean(scores["plain 4"])
    assert other.difference == mean([-1.0, 1.0, 0.0, 0.0])


def test_the_chart_shows_scored_rows(tmp_path: Path) -> None:
    row = Row(name="plain 4", steps=4, seconds=0.5, times=(0.5,), flops=1, peak_bytes=1)
    with pytest.raises(ValueError, match="no row"):
        chart([row], "nothing", tmp_path / "none.png")
    rows = bench.scored([row, Row(name="x", steps=2, seconds=0.2, times=(0.2,), flops=1, peak_bytes=1)],
                        {"plain 4": [1.0, 0.0], "x": [0.0, 0.0]}, "plain 4")  # fmt: skip
    twin = Row(name="twin", steps=4, seconds=2.0, times=(2.0,), flops=1, peak_bytes=1)
    chart([*rows, twin], "two", tmp_path / "two.png")
    pixels = np.asarray(Image.open(tmp_path / "two.png"))
    assert all((pixels == colour).all(-1).any() for colour in ((42, 111, 219), (208, 69, 62), (119, 119, 119)))


def test_scores_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run reads what the first has found, and samples only what is missing; other trials are others."""
    runs: list[int] = []

    class Trial:
        key, index, asked = "t2i.single", 0, "a fox"

        def check(self, answer: object) -> object:
            return mean([1.0])

    class Pipe:
        model, folder = MODEL, tmp_path / "none"
        tools = SimpleNamespace(defaults=Defaults(), image=SimpleNamespace(tile=None))

        def fill(self, prepared: list) -> list:
            runs.append(len(prepared))
            return [None]

        def finish(self, one: object, last: object, position: int, start: float) -> object:
            return type("Result", (), {"picture": np.zeros((2, 2, 3)), "text": None})()

    monkeypatch.setattr(bench, "requests", lambda pipe, group: [Way(name="", settings=ImageSettings()) for _ in group])
    way = Way(name="plain 2", settings=ImageSettings(steps=2))
    assert bench.judge_way(Pipe(), way, [Trial()] * 3, tmp_path, batch=2) == [1.0, 1.0, 1.0]  # type: ignore[arg-type, list-item]
    (file,) = tmp_path.glob("*.jsonl")
    found = file.read_text().splitlines()
    assert [json.loads(line)["index"] for line in found] == [0, 1, 2]
    file.write_text(found[0] + "\n" + found[1][:9])  # the end of a killed run
    assert bench.judge_way(Pipe(), way, [Trial()] * 3, tmp_path, batch=2) == [1.0] * 3  # type: ignore[arg-type, list-item]
    bench.judge_way(Pipe(), way, [Trial()] * 3, tmp_path, batch=2)  # type: ignore[arg-type, list-item]
    assert runs == [2, 1, 2]
    bench.judge_way(Pipe(), way, [Trial()] * 5, tmp_path, batch=8)  # type: ignore[arg-type, list-item]
    assert runs == [2, 1, 2, 5]
    # Broken to try it: each of the three left out of the name.
    again = partial(bench.judge_way, Pipe(), way, [Trial()], tmp_path)  # type: ignore[arg-type, list-item]
    Pipe.model = small_model(dtype=torch.bfloat16).float()
    again()
    runs.clear()
    again()
    assert not runs
    Pipe.tools = SimpleNamespace(defaults=Defaults(cfg_scale=2.0), image=SimpleNamespace(tile=None))
    again()
    Pipe.model = Pipe.model.to(torch.bfloat16)  # the same numbers
    again()
    Trial.asked = "two foxes"
    again()
    assert runs == [1, 1, 1]
