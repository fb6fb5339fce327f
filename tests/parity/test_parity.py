"""The authors' answers, and the twin's on a checkpoint of another shape, through `dimoo.eval.parity`.

Broken on purpose to see these fail: guidance without the +1; positions that count from 1; newlines left out; ML-Cache
quantile over masked rows only; a product of the schedule in float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_fixtures import generator
from parity_weights import backbone_weights, rebuild
from safetensors.torch import load_file, save_file
from torch import Tensor

from dimoo.diffusion.loss import IGNORE
from dimoo.eval import parity
from dimoo.eval.twin import Twin
from dimoo.model.checkpoint import authors_parts, load_model
from dimoo.model.config import ModelConfig
from dimoo.page.page import picture_page, text_page
from dimoo.page.rows import grid_to_rows, image_ids
from dimoo.sampling.guidance import Guided
from dimoo.sampling.policies import MLCache
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.vocab import authors_vocab

GOLDEN = Path(__file__).parent / "official-a"
V = authors_vocab()


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rebuild(GOLDEN, tmp_path_factory.mktemp("official-a"))


def test_the_authors_answers(official: Path) -> None:
    results = parity.run(official)
    assert [result.name for result in results] == list(json.loads((GOLDEN / "golden.json").read_text())["cases"])
    assert len(results) == 15
    assert [result.name for result in results if not result.ok] == []


def test_the_twin_gives_the_authors_answers_too(official: Path) -> None:
    """The oracle is itself checked against the authors' code, not only against ours."""
    golden = parity.load(official)
    twin = Twin.from_model(golden.model)
    ids = golden.tensor("logits", "input_ids")
    assert torch.equal(twin.logits(ids)[0].argmax(-1), golden.tensor("logits", "argmax"))
    greedy = generator()
    for case, values in golden.settings.items():
        if case.startswith(("t2i", "inpaint_g", "outpaint_g")):
            policy = MLCache(**{k: values[k] for k in ("cache_ratio", "warmup_ratio", "refresh_interval")}) if values[
                "use_cache"
            ] else None  # fmt: skip
            body = _grid(golden.tensor(case, "body"), values)
            page, uncond = (
                picture_page(golden.ids(case, name), body, golden.vocab, writable_RC=body < 0)
                for name in ("prompt_ids", "uncond_ids")
            )
            guided = Guided(page, ((uncond, values["cfg_scale"]),))
            settings = ImageSettings(steps=values["timesteps"], temperature=0.0)
            if policy is None:
                written = twin.picture(guided, settings, greedy)
            else:
                settings = ImageSettings(steps=values["timesteps"], temperature=0.0, policy=policy)
                written = twin.picture_ml_cache(guided, settings, greedy)
            filled = page.replace(page.ids.index_copy(0, page.slots, written)).output_codes()
            assert torch.equal(filled.flatten(), golden.tensor(case, "codes").flatten()), case


def _grid(body: Tensor, values: dict[str, Any]) -> Tensor:
    lines = body.reshape(values["grid_height"], values["grid_width"] + 1)[:, :-1]
    return torch.where(lines == V.mask, -1, lines - V.image_offset)


def test_the_weights_follow_the_rule(official: Path) -> None:
    """A few numbers of the published fixture, so that a slip in the rule is told apart from one in the engine."""
    weights = load_file(official / "model.safetensors")
    assert len(weights) == 3 * 9 + 3
    assert all(value.dtype == torch.bfloat16 for value in weights.values())
    assert weights["model.transformer.wte.weight"].shape == (134_548, 32)
    assert float(weights["model.transformer.ln_f.weight"].min()) >= 0.5


OTHER = ModelConfig(
    d_model=24, n_layers=2, n_heads=6, n_kv_heads=2, d_ff=40, vocab_size=V.size, rope_theta=10_000.0, tied=True
)


def other_fixture(official: Path, folder: Path, config: ModelConfig) -> Path:
    """The same format with other sizes; the answers come from the slow twin."""
    seed = 3
    folder.mkdir()
    weights = backbone_weights(config, seed)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_authors_json()))
    (folder / "vqvae").symlink_to(official / "vqvae")
    twin = Twin.from_weights(config, {name: value.float() for name, value in weights.items()})
    cases: dict[str, dict[str, Any]] = {}
    tensors: dict[str, Tensor] = {}

    def note(case: str, settings: dict[str, Any], **values: Tensor) -> None:
        cases[case] = settings
        tensors.update({f"{case}.{name}": value.clone() for name, value in values.items()})

    drawing = generator(seed)
    prompt = [*torch.randint(0, 120_000, (9,), generator=drawing).tolist(), 7]
    empty = [*torch.randint(0, 120_000, (4,), generator=drawing).tolist(), V.uncondition, 7]
    ids = torch.randint(0, V.size, (23,), generator=drawing)
    logits = twin.logits(ids)[0]
    note("logits", {}, input_ids=ids, logits_text_first256=logits[:, :256], argmax=logits.argmax(-1),
         logits_codes_first256=logits[:, V.image_offset :][:, :256], logsumexp=logits.logsumexp(-1))  # fmt: skip
    labels = torch.where(torch.arange(23) % 3 == 0, torch.randint(0, V.size, (23,), generator=drawing), IGNORE)
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE)
    note("train_loss", {}, input_ids=ids, labels=labels, loss=loss[None])

    blank = torch.full((4, 5), -1)
    pages = [picture_page(words, blank, V) for words in (prompt, empty)]
    numbers = {"grid_height": 4, "grid_width": 5, "timesteps": 7, "cfg_scale": 3.0}
    given = {
        "prompt_ids": torch.tensor(prompt),
        "uncond_ids": torch.tensor(empty),
        "body": grid_to_rows(blank, V),
    }
    settings = ImageSettings(steps=7, temperature=0.0)
    for case, scale in (("t2i_greedy", 3.0), ("t2i_nocfg", 0.0)):
        codes = twin.picture(Guided(pages[0], ((pages[1], scale),)), settings, drawing) - V.image_offset
        note(case, {**numbers, "cfg_scale": scale, "use_cache": False}, **given, codes=codes)
    cache = {"cache_ratio": 0.6, "warmup_ratio": 0.2, "refresh_interval": 3}
    cached = ImageSettings(steps=7, temperature=0.0, policy=MLCache(**cache))
    codes = twin.picture_ml_cache(Guided(pages[0], ((pages[1], 3.0),)), cached, drawing) - V.image_offset
    note("t2i_ml_cache", {**numbers, "use_cache": True, **cache}, **given, codes=codes)

    image = torch.randint(0, 8192, (2, 3), generator=drawing)
    branches = [picture_page(words, blank, V, images=[image]) for words in (prompt, empty)]
    guided = Guided(branches[0], ((branches[1], 2.5), (pages[0], 4.0)))
    codes = twin.edit(guided, settings, drawing) - V.image_offset
    given = {"prompt_ids": torch.tensor(prompt), "uncond_prompt_ids": torch.tensor(empty),
             "image_tokens": image_ids(image, V)}  # fmt: skip
    note("i2i_greedy", {**numbers, "cfg_scale": 2.5, "cfg_img": 4.0}, **given, codes=codes)

    page = text_page(prompt, [V.mask] * 8, V, images=[image], closed=True)
    text = TextSettings(steps=6, block_length=4, candidates="all", early_stop=False)
    note("text_greedy", {"gen_length": 8, "block_length": 4, "steps": 6},
         prompt_ids=torch.tensor(prompt), image_tokens=image_ids(image, V),
         answer=twin.text(Guided(page), text, drawing))  # fmt: skip

    named = {name: getattr(V, name) for name in ("mask", "newline", "answer_start", "answer_end", "boi", "eoi")}
    described = {"seed": seed, "cases": cases,
                 "ids": {**named, "image_offset": V.image_offset, "pad_answer": V.answer_pad}}  # fmt: skip
    (folder / "golden.json").write_text(json.dumps(described))
    save_file(tensors, folder / "golden.safetensors")
    return folder


def test_a_checkpoint_of_other_sizes_against_the_twin(official: Path, tmp_path: Path) -> None:
    # Broken to try it: key and value parts sized like the query part in authors_parts.
    folder = other_fixture(official, tmp_path / "other", OTHER)
    results = parity.run(folder)
    assert len(results) == 7 and [result.name for result in results if not result.ok] == []
    assert sum(len(parts) for parts in authors_parts(OTHER).values()) == 2 * 9 + 2
    assert load_model(folder).config == OTHER


def test_a_wrong_answer_does_not_pass(official: Path, tmp_path: Path) -> None:
    # Broken to try it: `ok` that compares no shapes.
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for name in ("config.json", "model.safetensors", "vqvae", "image.png"):
        (wrong / name).symlink_to(official / name)
    described = json.loads((official / "golden.json").read_text())
    described["cases"] = {
        name: described["cases"][name] for name in ("logits", "t2i_nocfg", "decode_image", "train_loss")
    }
    (wrong / "golden.json").write_text(json.dumps(described))
    tensors = load_file(official / "golden.safetensors")
    tensors["t2i_nocfg.codes"][3] += 1
    tensors["logits.argmax"][0] += 1
    tensors["decode_image.pixels"][0, 0, 0] += 2
    tensors["train_loss.loss"] *= 1.001
    save_file(tensors, wrong / "golden.safetensors")
    assert [result.ok for result in parity.run(wrong)] == [False] * 4
    described["cases"] = {"new_case": {}}
    (wrong / "golden.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="unknown parity case 'new_case'; known are logits"):
        parity.run(wrong)


def test_a_folder_that_is_no_fixture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no golden\.json"):
        parity.run(tmp_path)
    (tmp_path / "golden.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is no parity fixture: it holds no golden\.safetensors"):
        parity.run(tmp_path)
