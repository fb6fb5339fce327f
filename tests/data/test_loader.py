"""Shards and the stream of pages: what goes in comes out, and a stream goes on exactly from any state."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dimoo.data.loader import LoaderSettings, LoaderState, Pool, stream
from dimoo.data.mixture import MIXTURES
from dimoo.data.pretokenize import Shard, encode_all, pretokenize, write_shard
from dimoo.data.records import EDIT_KINDS, TASKS, Record
from dimoo.page.page import Page, picture_page, text_page
from dimoo.vocab import Vocab

VOCAB = Vocab(
    size=300,
    image_offset=44,
    mask=0,
    newline=1,
    boi=2,
    eoi=3,
    uncondition=4,
    answer_start=5,
    answer_end=6,
    answer_pad=7,
)
SETTINGS = LoaderSettings(ids=200, buffer=4, run=3)
MIXTURE = {("text_to_image", "caption"): 2.0, ("understand", "what"): 1.0, ("inpaint", ""): 1.0}


class Codes:
    """A tokenizer whose code is the mean red of each 16 x 16 patch, and which counts what it encodes."""

    factor, codes = 16, 256

    def __init__(self) -> None:
        self.seen = 0

    def encode_batch(self, pixels: np.ndarray) -> torch.Tensor:
        self.seen += len(pixels)
        count, height, width, _ = pixels.shape
        red = pixels[..., 0].reshape(count, height // 16, 16, width // 16, 16)
        return torch.from_numpy(red.mean(axis=(2, 4)).astype(np.int64))


def family(seed: int) -> list[Record]:
    lot = np.random.default_rng(seed)
    first, second = (np.kron(lot.integers(0, 256, (3, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(2))
    mask = np.zeros((48, 64), dtype=np.bool_)
    mask[0:17, 0:16] = True
    return [
        Record(task="text_to_image", kind="caption", prompt="fox " * (1 + seed % 5), answer_image=first),
        Record(task="text_to_image", kind="caption", prompt="狐狸", answer_image=second),
        Record(task="inpaint", prompt="a fox", images=(second,), answer_image=first, mask=mask),
        Record(
            task="understand",
            kind="what",
            prompt="what?",
            images=(first, second),
            answer_text="a fox\nand 狐狸",
            history=(("q", "a"),),
        ),
    ]


def make_page(record: Record, generator: torch.Generator) -> Page:
    prompt = [8 + byte % 30 for byte in record.prompt.encode()] + [8]
    if torch.rand((), generator=generator) < 0.3:
        prompt = [8]
    grids = [torch.from_numpy(image.astype(np.int64)) for image in record.images]
    if record.answer_image is None:
        return text_page(prompt, [9, 10, 6], VOCAB, images=grids)
    mask = None if record.mask is None else torch.from_numpy(record.mask)
    return picture_page(prompt, torch.from_numpy(record.answer_image.astype(np.int64)), VOCAB, writable_RC=mask)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    pretokenize(family, range(12), as_tokenizer(Codes()), tmp_path, shard=4, batch=3)
    return tmp_path


def as_tokenizer(codes: Codes) -> Any:
    return codes


def content(batch: list[Any]) -> list[list[int]]:
    return [one.page.ids.tolist() for one in batch]


def test_records_come_back_with_codes_and_shared_pictures_are_encoded_once(tmp_path: Path) -> None:
    # two families of two pictures, one of which is also met with a hole
    records, codes = [*family(0), *family(1)], Codes()
    assert write_shard(records, as_tokenizer(codes), tmp_path / "s.npz") == codes.seen == 6
    shard = Shard.load(tmp_path / "s.npz")
    for index, record in enumerate(records):
        back = shard.record(index)
        for name in ("task", "kind", "prompt", "answer_text", "history"):
            assert getattr(back, name) == getattr(record, name)
        assert len(back.images) == len(record.images)
        for grid, picture in zip(back.images, record.images, strict=True):
            if record.mask is None:
                assert np.array_equal(grid, picture[::16, ::16, 0])
            assert grid.dtype == np.uint16
        if record.answer_image is not None:
            assert np.array_equal(back.answer_image, record.answer_image[::16, ::16, 0])
        assert (back.mask is None) == (record.mask is None)
    assert shard.record(2).mask is not None
    assert shard.record(2).mask.tolist() == [[True, False, False, False], [True] + [False] * 3, [False] * 4]


def test_pictures_of_several_sizes_keep_their_order() -> None:
    pictures = [np.full((16 * (1 + i % 2), 32, 3), i, np.uint8) for i in range(7)]
    grids = encode_all(pictures, as_tokenizer(Codes()), batch=2)
    assert [(grid.shape, int(grid[0, 0])) for grid in grids] == [((1 + i % 2, 2), i) for i in range(7)]


def test_pretokenizing_goes_on_where_it_stopped_and_in_parts(shards: Path, tmp_path_factory: Any) -> None:
    names = sorted(file.name for file in shards.iterdir())
    assert names == ["00000000.npz", "00000004.npz", "00000008.npz"]
    kept = (shards / names[1]).read_bytes()
    (shards / names[0]).unlink()
    codes = Codes()
    assert pretokenize(family, range(12), as_tokenizer(codes), shards, shard=4) == codes.seen == 12
    assert (shards / names[1]).read_bytes() == kept
    other = tmp_path_factory.mktemp("parts")
    for part in (1, 0):
        pretokenize(family, range(12), as_tokenizer(Codes()), other, shard=4, part=(part, 2))
    for name in names:
        ours, theirs = Shard.load(shards / name), Shard.load(other / name)
        assert np.array_equal(ours.codes, theirs.codes) and ours.rows == theirs.rows


def test_a_stream_goes_on_exactly_from_any_state(shards: Path) -> None:
    whole = list(islice(stream(Pool(shards), make_page, MIXTURE, SETTINGS, LoaderState(seed=3)), 11))
    for stop in (1, 4, 5, 9):
        state = LoaderState.from_json(whole[stop - 1][1].to_json())
        rest = list(islice(stream(Pool(shards), make_page, MIXTURE, SETTINGS, state), 11 - stop))
        assert [content(batch) for batch, _ in rest] == [content(batch) for batch, _ in whole[stop:]]
        assert rest[-1][1] == whole[-1][1]
    other = next(stream(Pool(shards), make_page, MIXTURE, SETTINGS, LoaderState(seed=4)))[0]
    assert content(other) != content(whole[0][0])


def test_a_state_of_longer_buffers_goes_on_with_the_next(shards: Path) -> None:
    state = LoaderState(shards=Pool(shards).names(), batch=40)
    batch, after = next(stream(Pool(shards), make_page, MIXTURE, SETTINGS, state))
    assert batch and after.buffer == 1 and after.batch == 1


def test_new_shards_join_at_the_next_buffer(shards: Path) -> None:
    hidden = shards / "later"
    (shards / "00000008.npz").rename(hidden)
    batches = stream(Pool(shards), make_page, MIXTURE, SETTINGS, LoaderState())
    _, state = next(batches)
    assert len(state.shards) == 2
    hidden.rename(shards / "00000008.npz")
    while state.buffer == 0:
        _, state = next(batches)
        assert len(state.shards) == 2
    _, state = next(batches)
    assert len(state.shards) == 3


def test_batches_hold_about_as_many_ids_and_few_lengths(shards: Path) -> None:
    settings = LoaderSettings(ids=600, buffer=8, run=4)
    batches = [batch for batch, _ in islice(stream(Pool(shards), make_page, MIXTURE, settings, LoaderState()), 30)]
    sizes = [sum(len(one.page) for one in batch) for batch in batches]
    assert 0.4 * 600 < min(sizes) and max(sizes) < 2 * 600
    assert sum(sizes) / len(sizes) == pytest.approx(600, rel=0.25)
    drawn = Counter((one.task, one.kind) for batch in batches for one in batch)
    total = sum(drawn.values())
    for kind, weight in MIXTURE.items():
        assert drawn[kind] / total == pytest.approx(weight / 4, abs=0.12)


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no record"):
        next(stream(Pool(tmp_path), make_page, MIXTURE, SETTINGS, LoaderState()))
    with pytest.raises(ValueError, match="run must be at least 1, got 0"):
        LoaderSettings(run=0)
    with pytest.raises(ValueError, match="70000 codes does not fit"):
        encode_all([], as_tokenizer(SimpleNamespace(codes=70000)))


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_mixtures_name_real_kinds(name: str) -> None:
    for (task, kind), weight in MIXTURES[name].items():
        assert task in TASKS and weight > 0
        assert task != "edit" or kind in EDIT_KINDS
