"""The trainer of the VQ tokenizer: what it ships is what diffusers reads, and a run continues exactly."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import VQModel

from dimoo.data.stickers import CORE, STYLES, Catalogue
from dimoo.data.stickers import picture as sticker
from dimoo.train import vq as trainer
from dimoo.train import vq_model as model
from dimoo.train.codebook import follow, nearest_codes, revive, start_codebook
from dimoo.train.vq_semantics import UNKNOWN, PlaceReader, labelled_picture

SHAPE = model.VqShape(patch=4, channels=(8, 16), latent=8, code_size=4, codes=32, groups=4)
RUN = trainer.VqTraining(
    steps=8, minutes=1e9, batch=4, continuous_steps=3, idle_steps=2, warmup_steps=2, save_seconds=0.0
)


def picture(seed: int) -> np.ndarray:
    """A disc on a plain ground, 32 px."""
    random = np.random.default_rng(seed)
    ground, disc = random.integers(0, 256, (2, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:32, :32]
    inside = (rows - random.integers(8, 24)) ** 2 + (columns - random.integers(8, 24)) ** 2 < 36
    return np.where(inside[..., None], disc, ground).astype(np.uint8)


def pictures(count: int, first: int = 1000) -> np.ndarray:
    return np.stack([picture(first + i) for i in range(count)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[trainer.RunState, Path]:
    folder = tmp_path_factory.mktemp("vq")
    state = trainer.train(SHAPE, RUN, picture, folder=folder, held_out=pictures(8))
    model.export(model.shipped(state.vq, state.average), folder / "export", sample=pictures(8))
    return state, folder


def test_patches_come_back_as_they_were():
    given = pictures(3)
    patches = model.to_patches(given, patch=4)
    assert patches.shape == (3, 48, 8, 8)
    assert np.array_equal(model.to_pictures(patches, patch=4), given)


def test_codes_of_training_are_codes_of_diffusers(trained):
    state, folder = trained
    shipped = VQModel.from_pretrained(folder / "export").eval()
    assert shipped.config.lookup_from_codebook
    assert model.patch_of(shipped) == 4
    averaged = model.shipped(state.vq, state.average)
    with torch.no_grad():
        latents = averaged.encode(model.to_patches(pictures(8), patch=4)).latents
    units_ZE = F.normalize(latents.permute(0, 2, 3, 1).flatten(0, 2), dim=-1)
    of_training = nearest_codes(units_ZE, averaged.quantize.embedding.weight)
    of_diffusers = model.encode_codes(averaged, pictures(8)).flatten()
    assert torch.equal(of_training, of_diffusers)
    of_shipped = model.encode_codes(shipped, pictures(8)).flatten()
    assert (of_shipped == of_training).float().mean() > 0.97  # weights rounded to float16


def test_shipped_model_decodes_codes(trained):
    _, folder = trained
    shipped = VQModel.from_pretrained(folder / "export").eval()
    codes = model.encode_codes(shipped, pictures(2))
    assert codes.shape == (2, 4, 4)
    rebuilt = model.decode_codes(shipped, codes)
    assert rebuilt.shape == (2, 32, 32, 3)
    assert rebuilt.dtype == np.uint8
    assert np.array_equal(rebuilt, model.round_trip(shipped, pictures(2)))


def test_resumed_run_is_the_run_that_was_never_stopped(trained, tmp_path):
    whole, _ = trained
    for stop in (5, None):
        resumed = trainer.train(SHAPE, RUN, picture, folder=tmp_path, held_out=pictures(8), stop_at=stop)
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name]), name
    assert torch.equal(whole.codebook.codes_KE, resumed.codebook.codes_KE)


def test_a_decoder_learns_on_while_the_codes_stay(trained, tmp_path):
    _, folder = trained
    before = VQModel.from_pretrained(folder / "export")
    state = trainer.train(SHAPE, RUN, picture, folder=tmp_path, held_out=pictures(8), begin=before, decoder_only=True)
    model.export(model.shipped(state.vq, state.average), tmp_path / "export", sample=pictures(8))
    after = VQModel.from_pretrained(tmp_path / "export")
    codes = model.encode_codes(before, pictures(8))
    assert torch.equal(codes, model.encode_codes(after, pictures(8)))
    assert not np.array_equal(model.decode_codes(before, codes), model.decode_codes(after, codes))


def test_metrics_and_grid_are_written(trained):
    _, folder = trained
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"psnr", "codes_used", "perplexity"} <= lines[-1].keys()
    assert (folder / "grid.png").exists()


def test_codes_follow_their_latents_and_stay_on_the_sphere():
    random = torch.Generator().manual_seed(0)
    latents = F.normalize(torch.randn(256, 4, generator=random), dim=-1)
    book = start_codebook(latents, codes=16, rounds=3, generator=random)
    before = (latents * book.codes_KE[nearest_codes(latents, book.codes_KE)]).sum(-1).mean()
    for _ in range(20):
        book = follow(book, latents, nearest_codes(latents, book.codes_KE), decay=0.8)
    after = (latents * book.codes_KE[nearest_codes(latents, book.codes_KE)]).sum(-1).mean()
    assert torch.allclose(book.codes_KE.norm(dim=-1), torch.ones(16), atol=1e-5)
    assert after > before


def test_unused_codes_are_moved_to_latents():
    random = torch.Generator().manual_seed(0)
    latents = F.normalize(torch.randn(256, 4, generator=random), dim=-1)
    book = start_codebook(latents[:8], codes=16, rounds=0, generator=random)
    for _ in range(4):
        book = follow(book, latents, torch.zeros(256, dtype=torch.long), decay=0.9)
    revived = revive(book, latents, torch.zeros(256, dtype=torch.long), idle_steps=3, generator=random)
    assert (revived.idle_K == 0).all()
    assert torch.equal(revived.codes_KE[0], book.codes_KE[0])
    distances = torch.cdist(revived.codes_KE[1:], latents).min(dim=-1).values
    assert distances.max() < 1e-6


def test_rate_warms_up_and_falls_to_nothing():
    run = trainer.VqTraining(learning_rate=1.0, warmup_steps=10)
    assert trainer.learning_rate_at(run, step=0, progress=0.0) == pytest.approx(0.1)
    assert trainer.learning_rate_at(run, step=100, progress=0.5) == pytest.approx(0.5)
    assert trainer.learning_rate_at(run, step=100, progress=1.0) == pytest.approx(0.0)


def test_what_is_read_from_the_codes_teaches_the_encoder():
    shape = model.VqShape(patch=4, channels=(8, 16, 16), latent=8, code_size=4, codes=32, groups=4)
    reader = PlaceReader(code_size=4, concepts=len(CORE), styles=len(STYLES), width=8)
    labelled = partial(labelled_picture, catalogue=Catalogue.load(), concepts=tuple(CORE), styles=STYLES)
    run = trainer.VqTraining(batch=2)
    state = trainer.start(shape, run, sticker, begin=model.build_vq(shape), reader=reader)
    pictures, labels = zip(*(labelled(seed) for seed in (0, 1)), strict=True)
    weights = trainer.learned_weights(state.vq)
    _, measures = trainer.advance(state, run, (np.stack(pictures), np.stack(labels)))
    assert measures["reading"] > 0
    assert weights["quant_conv.weight"].grad.abs().sum() > 0
    assert all(weight.grad is not None for weight in reader.parameters())


def test_labels_of_pictures_that_are_not_scenes_are_unknown():
    labelled = partial(labelled_picture, catalogue=Catalogue.load(), concepts=tuple(CORE), styles=STYLES)
    assert (labelled(0, plain_share=1.0)[1] == UNKNOWN).all()
    assert all((labelled(seed, plain_share=0.0)[1] >= 0).all() for seed in range(4))
