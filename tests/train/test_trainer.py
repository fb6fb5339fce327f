"""Training: runs resume exactly, tiny models overfit, averages and groups are what they say."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.page.page import picture_page, text_page
from dimoo.train.checkpoints import Run, export, resume, save, start
from dimoo.train.config import TrainSettings, learning_rate_at
from dimoo.train.forward import hidden_states
from dimoo.train.metrics import Journal, Meter, ratio_bucket
from dimoo.train.optim import Average, WideMuon, make_optimizers, new_model, orthogonal
from dimoo.train.trainer import Batch, Example, Look, hidden_loss, hide, train
from dimoo.vocab import Vocab

torch.set_num_threads(1)  # for matrices this small, threads only wait for each other
VOCAB = Vocab(
    size=48, image_offset=24, mask=0, newline=1, boi=2, eoi=3, uncondition=4, answer_start=5, answer_end=6, answer_pad=7
)
CONFIG = ModelConfig(d_model=32, n_layers=2, n_heads=2, n_kv_heads=2, d_ff=64, vocab_size=VOCAB.size)


def examples(seed: int, count: int = 4) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        codes = torch.randint(0, VOCAB.codes, (3, 4), generator=generator)
        prompt = torch.randint(8, 24, (3 + index % 2,), generator=generator).tolist()
        if index % 4 == 3:
            answer = [*torch.randint(8, 24, (2,), generator=generator).tolist(), VOCAB.answer_end, VOCAB.answer_pad]
            made.append(Example(page=text_page(prompt, answer, VOCAB, images=[codes]), task="understand"))
        else:
            made.append(Example(page=picture_page(prompt, codes, VOCAB), task="text_to_image"))
    return made


def stream(state: dict[str, Any] | None) -> Iterator[Batch]:
    at = 0 if state is None else state["at"]
    while True:
        at += 1
        yield examples(at), {"at": at}


def look(model: Transformer, step: int) -> dict[str, float]:
    return {}


def go_on(folder: Path, steps: int, **changes: Any) -> Run:
    settings = TrainSettings(
        **{"steps": steps, "warmup": 3, "log_seconds": 0.0, "dtype": "float32", "fuse": False, **changes}
    )
    run = resume(folder, CONFIG, settings)
    return train(run, settings, stream, folder=folder, look=look, journal=Journal(folder))


def losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.parametrize(("accumulate", "matrices"), [(1, "adamw"), (2, "adamw"), (1, "muon")])
def test_a_resumed_run_goes_on_with_the_same_losses(tmp_path: Path, accumulate: int, matrices: str) -> None:
    whole = go_on(tmp_path / "whole", 7, accumulate=accumulate, matrices=matrices)
    go_on(tmp_path / "parts", 4, accumulate=accumulate, matrices=matrices)
    parts = go_on(tmp_path / "parts", 7, accumulate=accumulate, matrices=matrices)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert len(losses(tmp_path / "whole")) == 7
    assert (whole.step, whole.pages) == (parts.step, parts.pages) == (7, 28 * accumulate)
    for ours, theirs in ((whole.model, parts.model), (whole.average.model, parts.average.model)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name


def test_a_run_of_another_size_is_refused(tmp_path: Path) -> None:
    save(start(CONFIG, TrainSettings()), tmp_path)
    with pytest.raises(ValueError, match="d_model"):
        resume(tmp_path, dataclasses.replace(CONFIG, d_model=64), TrainSettings())


def test_a_run_of_other_optimizers_is_refused(tmp_path: Path) -> None:
    save(start(CONFIG, TrainSettings(matrices="muon")), tmp_path)
    with pytest.raises(ValueError, match="'muon'"):
        resume(tmp_path, CONFIG, TrainSettings(matrices="adamw"))


def test_a_run_killed_in_its_last_look_looks_when_asked_again(tmp_path: Path) -> None:
    seen: list[int] = []

    def once(folder: Path, look: Look) -> None:
        settings = TrainSettings(steps=2, dtype="float32", fuse=False)
        run = resume(folder, CONFIG, settings)
        train(run, settings, stream, folder=folder, look=look, journal=Journal(folder))

    def killed(model: Transformer, step: int) -> dict[str, float]:
        raise KeyboardInterrupt

    def whole(model: Transformer, step: int) -> dict[str, float]:
        seen.append(step)
        return {}

    with pytest.raises(KeyboardInterrupt):
        once(tmp_path, killed)
    once(tmp_path, whole)
    assert seen == [2]


def test_a_tiny_model_learns_four_pages_by_heart(tmp_path: Path) -> None:
    pages = examples(5)

    def same(state: dict[str, Any] | None) -> Iterator[Batch]:
        while True:
            yield pages, {}

    settings = TrainSettings(steps=250, warmup=10, learning_rate=5e-3, log_seconds=1e9, dtype="float32", fuse=False)
    run = train(start(CONFIG, settings), settings, same, folder=tmp_path, look=look, journal=Journal(tmp_path))
    loss, losses_M = hidden_loss(run.model, hide(pages, torch.Generator().manual_seed(99)))
    assert float(loss.detach()) < 0.2
    assert losses_M.isfinite().all()


def test_hidden_loss_is_the_weighted_mean_over_each_kinds_own_ids() -> None:
    model = new_model(CONFIG, torch.Generator().manual_seed(1))
    hidden = hide(examples(2, 8), torch.Generator().manual_seed(3))
    loss, losses_M = hidden_loss(model, hidden, text_weight=5.0)
    logits = F.linear(model(hidden.ids_T, hidden.packing)[hidden.rows.index], model.head_weight)
    expected, weights = [], []
    for row, target in zip(logits, hidden.targets_M.tolist(), strict=True):
        code = target >= VOCAB.image_offset
        part = row[VOCAB.image_offset :] if code else row[: VOCAB.image_offset]
        expected.append(-part.log_softmax(-1)[target - (VOCAB.image_offset if code else 0)])
        weights.append(1.0 if code else 5.0)
    weight_M = torch.tensor(weights)
    assert 0 < (weight_M > 1).sum() < len(weight_M)
    torch.testing.assert_close(losses_M, torch.stack(expected).detach())
    torch.testing.assert_close(loss, (torch.stack(expected) * weight_M).sum() / weight_M.sum())


def test_hide_hides_writable_positions_only_and_keeps_what_stood_there() -> None:
    batch = examples(4, 8)
    hidden = hide(batch, torch.Generator().manual_seed(0))
    batch = sorted(batch, key=lambda example: len(example.page))
    whole = torch.cat([example.page.ids for example in batch])
    writable = torch.cat([example.page.writable for example in batch])
    assert bool(writable[hidden.rows.index].all())
    assert torch.equal(whole[hidden.rows.index], hidden.targets_M)
    assert torch.equal(hidden.ids_T == VOCAB.mask, torch.isin(torch.arange(len(whole)), hidden.rows.index))
    assert list(hidden.packing.lengths) == [len(example.page) for example in batch]
    assert sum(hidden.rows.counts) == len(hidden.targets_M)


def test_a_page_can_have_its_own_share_of_being_hidden_whole() -> None:
    # Broken to try it: the settings' share for every page.
    pages = examples(2, 2)  # the shorter first, as `hide` has them
    batch = [dataclasses.replace(pages[0], whole_share=1.0), pages[1]]
    settings = TrainSettings(whole_share=0.0)
    hidden = [hide(batch, torch.Generator().manual_seed(seed), settings=settings) for seed in range(30)]
    whole = [[one.rows.counts[at] == len(pages[at].page.slots) for one in hidden] for at in (0, 1)]
    assert all(whole[0]) and not any(whole[1])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_the_training_pass_is_the_models_pass(dtype: torch.dtype, tolerance: float) -> None:
    model = new_model(CONFIG, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    hidden = hide(examples(6, 9), torch.Generator().manual_seed(2))
    assert len(set(hidden.packing.lengths)) > 2
    slow = model(hidden.ids_T, hidden.packing, need=hidden.rows)
    fast = hidden_states(model, hidden.ids_T, hidden.packing, hidden.rows, dtype=dtype, fuse=False)
    assert fast.dtype == dtype
    assert float((fast - slow).norm() / slow.norm()) < tolerance
    towards = torch.randn(slow.shape, generator=torch.Generator().manual_seed(3))
    weights = [model.blocks[0].qkv.weight, model.embedding.weight, model.final_norm.weight]
    for ours, theirs in zip(
        torch.autograd.grad((fast * towards).mean(), weights),
        torch.autograd.grad((slow * towards).mean(), weights),
        strict=True,
    ):
        assert float((ours - theirs).norm() / theirs.norm()) < tolerance


@pytest.mark.parametrize("matrices", ["adamw", "muon"])
def test_only_matrices_decay_and_every_parameter_moves_once(matrices: Any) -> None:
    model = Transformer(CONFIG)
    optimizers = make_optimizers(model, TrainSettings(weight_decay=0.1, matrices=matrices))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group in groups:
        assert {parameter.ndim for parameter in group["params"]} == {2 if group["weight_decay"] else 1}
    assert len(optimizers) == (2 if matrices == "muon" else 1)
    moved = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(moved) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(48, 16), (16, 48)])
def test_muon_in_float32_steps_as_torchs_does(shape: tuple[int, int]) -> None:
    # Broken to try it: no look-ahead; a step as large for every shape; weight decay left out.
    numbers = torch.Generator().manual_seed(5)
    first = torch.randn(shape, generator=numbers)
    wide, torchs = (torch.nn.Parameter(first.clone()) for _ in range(2))
    said: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.9, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = (WideMuon([wide], **said), torch.optim.Muon([torchs], **said))
    for _ in range(3):
        gradient = torch.randn(shape, generator=numbers)
        for parameter, optimizer in zip((wide, torchs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = float((torchs.detach() - first).norm())
    assert float((wide - torchs).detach().norm()) < 0.02 * moved
    assert optimizers[0].state_dict()["state"][0].keys() == optimizers[1].state_dict()["state"][0].keys()


def test_an_update_is_made_orthogonal() -> None:
    group = WideMuon([torch.nn.Parameter(torch.zeros(2, 2))]).param_groups[0]
    matrix = torch.randn(40, 12, generator=torch.Generator().manual_seed(6))
    found = orthogonal(matrix, group["ns_coefficients"], group["ns_steps"])
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    sizes = torch.linalg.svdvals(found)
    assert 0.6 < float(sizes.min()) <= float(sizes.max()) < 1.3
    assert float((left.t() @ found @ right.t()).diagonal().sum()) == pytest.approx(float(sizes.sum()), rel=1e-3)


def test_fresh_weights_have_the_stated_deviations() -> None:
    model = new_model(dataclasses.replace(CONFIG, d_model=128, d_ff=256), torch.Generator().manual_seed(0))
    assert float(model.blocks[0].qkv.weight.std()) == pytest.approx(0.02, rel=0.05)
    for matrix in (model.blocks[0].attention_out.weight, model.blocks[1].down.weight):
        assert float(matrix.std()) == pytest.approx(0.02 / math.sqrt(4), rel=0.05)
    assert bool((model.final_norm.weight == 1).all())


def test_average_follows_slowly_and_forgets_the_first_weights() -> None:
    model = new_model(CONFIG, torch.Generator().manual_seed(0))
    average = Average(model, decay=0.9)
    before = average.model.head_weight.clone()
    with torch.no_grad():
        model.head_weight.add_(1.0)
    average.follow(model, step=1000)
    torch.testing.assert_close(average.model.head_weight, before + 0.1)
    average.follow(model, step=0)  # decay 1 / 10
    torch.testing.assert_close(average.model.head_weight, before + 1 - 0.9 * 0.1)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


def test_learning_rate_warms_up_stays_and_decays() -> None:
    constant = TrainSettings(learning_rate=1.0, warmup=4)
    assert [learning_rate_at(step, constant) for step in (0, 1, 3, 99)] == [0.25, 0.5, 1.0, 1.0]
    linear = TrainSettings(learning_rate=1.0, warmup=1, decay="linear", decay_start=10, steps=20, final_share=0.2)
    assert [learning_rate_at(step, linear) for step in (5, 10, 15, 20)] == pytest.approx([1.0, 1.0, 0.6, 0.2])
    cosine = dataclasses.replace(linear, decay="cosine", final_share=0.0)
    assert [learning_rate_at(step, cosine) for step in (10, 15, 20)] == pytest.approx([1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match="decay 'step' is not one of constant"):
        TrainSettings(decay="step")  # type: ignore[arg-type]


def test_meter_means_by_count_and_rates_by_time() -> None:
    meter = Meter()
    meter.add("loss", 6.0, 2)
    meter.add("loss", 3.0, 1)
    meter.count("pages", 10)
    assert meter.read(2.0) == {"loss": 3.0, "pages_per_second": 5.0}
    assert meter.read(1.0) == {}
    assert [ratio_bucket(ratio) for ratio in (0.0, 0.25, 0.99, 1.0)] == ["0-25", "25-50", "75-100", "75-100"]


def test_export_is_a_checkpoint_in_bfloat16(tmp_path: Path) -> None:
    from dimoo.model.checkpoint import load_model

    base = tmp_path / "base"
    (base / "vqvae").mkdir(parents=True)
    (base / "vqvae" / "config.json").write_text("{}")
    VOCAB.save(base)
    run = start(CONFIG, TrainSettings())
    export(run.average.model, tmp_path / "export", beside=base)
    loaded = load_model(tmp_path / "export")
    assert loaded.dtype == torch.bfloat16
    torch.testing.assert_close(loaded.head_weight.float(), run.average.model.head_weight, atol=1e-3, rtol=1e-2)
    assert Vocab.load(tmp_path / "export") == VOCAB
    assert (tmp_path / "export" / "vqvae" / "config.json").exists()
