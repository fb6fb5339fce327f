"""Filling pictures: batches, caches, guidance, schedules and memory, each against the plain way.

Broken on purpose to see these fail: one generator shared by a batch; positions counted across the pack; a cache that
keeps stale keys at its refresh; a branch of weight 0 that runs; the head on all rows; ties cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from engine_fixtures import CODES, VOCAB, Shapes, blank, drawn, edited, fill, painted, small_model, spy, steps, words
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from dimoo.diffusion.schedule import masked_counts
from dimoo.eval.twin import Twin
from dimoo.page.page import picture_page
from dimoo.sampling import read
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import fill_image
from dimoo.sampling.policies import DualCache, MLCache, NoCache, Policy, RevealAware, Seen
from dimoo.sampling.settings import ImageSettings

MODEL = small_model()
TWIN = Twin.from_model(MODEL)
MIXED = [drawn(9, 4, 5, 1), painted(5, 3, 3, 2), edited(7, 3, 4, 3), drawn(14, 2, 2, 4, scale=0.0), drawn(9, 4, 5, 5)]
SEEDS = [11, 12, 13, 14, 15]
CACHED: list[Policy] = [
    MLCache(cache_ratio=0.7, warmup_ratio=0.2, refresh_interval=3),
    RevealAware(warmup_ratio=0.2, refresh_interval=4, ahead=1.0, budget=0.1),
    DualCache(refresh_interval=3),
]
EVERY_STEP: list[Policy] = [
    MLCache(refresh_interval=1),
    MLCache(warmup_ratio=1.0),
    RevealAware(refresh_interval=1),
    DualCache(refresh_interval=1),
]


@dataclass(frozen=True)
class AllRows:
    """A partial step after the first, but one that names every row: the store is used and must change nothing."""

    wants_max_logit: bool = False

    def refresh(self, step: int, steps: int) -> bool:
        return step == 0

    def rows(self, seen: Seen) -> torch.Tensor:
        return torch.ones_like(seen.masked)


@pytest.mark.parametrize("noise", ["exact", "reference"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("policy", [NoCache(), *CACHED], ids=lambda policy: type(policy).__name__)
def test_a_batch_equals_its_members_alone(policy: Policy, temperature: float, noise: str) -> None:
    # Broken to try it: generators[0] for every page; policy rows of branch 0 for every branch.
    settings = ImageSettings(steps=7, temperature=temperature, noise=noise, policy=policy)
    together = fill(MODEL, MIXED, settings, SEEDS)
    alone = [fill(MODEL, [one], settings, [seed])[0] for one, seed in zip(MIXED, SEEDS, strict=True)]
    assert together == alone
    backwards = fill(MODEL, MIXED[::-1], settings, SEEDS[::-1])
    assert backwards[::-1] == alone


def test_pages_and_their_ids_are_not_changed() -> None:
    # Broken to try it: index_copy_ instead of index_copy in the loop.
    before = [(page.ids.clone(), page.writable.clone()) for one in MIXED for page in one.branches]
    seen = steps(MODEL, MIXED, ImageSettings(steps=5, policy=CACHED[0]), SEEDS)
    kept = [tuple(ids.clone() for ids in step.ids) for step in seen]
    for (ids, writable), page in zip(before, (page for one in MIXED for page in one.branches), strict=True):
        assert torch.equal(ids, page.ids) and torch.equal(writable, page.writable)
    # Steps that were yielded stay as they were: their ids differ from step to step.
    for step, old in zip(seen, kept, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(step.ids, old, strict=True))
    assert sum(seen[0].masked) > sum(seen[1].masked) > sum(seen[-1].masked) == 0


@pytest.mark.parametrize("policy", [*EVERY_STEP, AllRows(), AllRows(wants_max_logit=True), MLCache(cache_ratio=0.0)])
def test_a_cache_refreshed_at_every_step_changes_nothing(policy: Policy) -> None:
    # Broken to try it: keys stored before rotation; `cache.store` giving back the old keys; rows of the wrong page.
    for temperature in (0.0, 1.0):
        plain = fill(MODEL, MIXED, ImageSettings(steps=6, temperature=temperature), SEEDS)
        assert fill(MODEL, MIXED, ImageSettings(steps=6, temperature=temperature, policy=policy), SEEDS) == plain


@pytest.mark.parametrize("policy", CACHED, ids=lambda policy: type(policy).__name__)
def test_a_cache_skips_work(policy: Policy) -> None:
    settings = ImageSettings(steps=10, policy=policy)
    with spy(MODEL) as rows:
        fill(MODEL, [MIXED[0]], settings, [1])
    total = sum(len(page) for page in MIXED[0].branches)
    full = sum(policy.refresh(step, 10) for step in range(10))
    assert sum(count == total for count in rows) == full < 10
    assert all(count < total for step, count in enumerate(rows) if not policy.refresh(step, 10))


@tries(max_examples=25)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 5),
    count=st.integers(1, 12),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    noise=st.sampled_from(["exact", "reference"]),
    scale=st.sampled_from([0.0, 1.5, 4.0]),
)
def test_pictures_equal_the_twin(
    rows: int, columns: int, count: int, seed: int, temperature: float, noise: str, scale: float
) -> None:
    # Broken to try it: ceil for floor in the schedule; the score without its noise; (1 + s) u - s c.
    settings = ImageSettings(steps=count, temperature=temperature, noise=noise)
    for one in (drawn(seed % 7 + 2, rows, columns, seed, scale=scale), painted(3, rows, columns, seed, scale=scale)):
        expected = TWIN.picture(one, settings, torch.Generator().manual_seed(seed))
        assert fill(MODEL, [one], settings, [seed]) == [expected.tolist()]


@tries(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    ratio=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    warmup=st.sampled_from([0.0, 0.3, 0.5]),
    interval=st.integers(1, 6),
    temperature=st.sampled_from([0.0, 1.0]),
    scale=st.sampled_from([0.0, 4.0]),
)
def test_ml_cache_equals_the_twin(
    seed: int, ratio: float, warmup: float, interval: int, temperature: float, scale: float
) -> None:
    # Broken to try it: `<` for `<=` at the quantile; the largest logit of the written rows only; step < warmup.
    policy = MLCache(cache_ratio=ratio, warmup_ratio=warmup, refresh_interval=interval)
    settings = ImageSettings(steps=9, temperature=temperature, policy=policy)
    one = drawn(6, 4, 4, seed, scale=scale)
    expected = TWIN.picture_ml_cache(one, settings, torch.Generator().manual_seed(seed))
    assert fill(MODEL, [one], settings, [seed]) == [expected.tolist()]


@pytest.mark.parametrize("noise", ["exact", "reference"])
@pytest.mark.parametrize("scales", [(2.5, 4.0), (2.5, 0.0), (0.0, 0.0)])
def test_edits_equal_the_twin(scales: tuple[float, float], noise: str) -> None:
    # Broken to try it: the two scales exchanged.
    for seed in range(3):
        one = edited(5, 3, 4, seed, scales=scales)
        settings = ImageSettings(steps=6, noise=noise)
        expected = TWIN.edit(one, settings, torch.Generator().manual_seed(seed))
        assert fill(MODEL, [one], settings, [seed]) == [expected.tolist()]


def test_a_guidance_of_weight_zero_costs_nothing() -> None:
    # Broken to try it: `branches` with every contrast.
    one, settings = drawn(6, 3, 3, 1, scale=0.0), ImageSettings(steps=4)
    with spy(MODEL) as rows:
        fill(MODEL, [one], settings, [1])
    assert rows == [len(one.page)] * 4
    half = edited(6, 3, 3, 1, scales=(0.0, 2.0))
    with spy(MODEL) as rows:
        fill(MODEL, [half], settings, [1])
    assert rows == [len(half.page) + len(half.contrasts[1][0])] * 4


def test_branches_run_in_one_call() -> None:
    with spy(MODEL) as rows:
        fill(MODEL, MIXED, ImageSettings(steps=3), SEEDS)
    assert len(rows) == 3


def test_the_last_block_runs_only_where_logits_are_needed() -> None:
    # Broken to try it: keep=None in the last block.
    seen: dict[int, list[int]] = {0: [], 2: []}
    handles = [
        MODEL.blocks[layer].mlp_norm.register_forward_pre_hook(
            lambda _, args, layer=layer: seen[layer].append(len(args[0]))
        )
        for layer in seen
    ]
    one = drawn(6, 4, 4, 2)
    fill(MODEL, [one], ImageSettings(steps=4, temperature=0.0), [0])
    for handle in handles:
        handle.remove()
    total = sum(len(page) for page in one.branches)
    masked = [16, *masked_counts(16, 4)[:-1]]
    assert seen[0] == [total] * 4
    assert seen[2] == [2 * count for count in masked]


@pytest.mark.parametrize("policy", [NoCache(), *CACHED], ids=lambda policy: type(policy).__name__)
def test_no_tensor_of_sequence_times_vocabulary(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    # Broken to try it: the head over the whole vocabulary, then sliced; the largest logits without chunks.
    monkeypatch.setattr(read, "CHUNK_ROWS", 4)
    one = drawn(20, 4, 4, 1)
    with Shapes() as shapes:
        fill(MODEL, [one], ImageSettings(steps=6, policy=policy), [1])
    wide = {shape for shape in shapes.seen if shape and shape[-1] == VOCAB.size and shape != (VOCAB.size, 32)}
    assert not wide, "logits of the full vocabulary"
    codes = [shape[0] for shape in shapes.seen if len(shape) == 2 and shape[1] == CODES and shape != (32, CODES)]
    assert max(codes) <= 2 * 16, "logits of the masked cells of the two branches at most"


@pytest.mark.parametrize("settings", [ImageSettings(steps=6), ImageSettings(steps=6, entropy_bound=0.5)])
def test_a_step_waits_for_the_device_once(settings: ImageSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Broken to try it: ids, scores and probabilities fetched page by page.
    fetched: list[torch.Tensor] = []
    whole = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: fetched.append(tensor) or whole(tensor))
    assert len(steps(MODEL, MIXED, settings, SEEDS)) == len(fetched)


def test_ties_at_the_cut_are_revealed() -> None:
    # Broken to try it: topk of the planned count instead of the threshold.
    flat = small_model()
    flat.head.weight.zero_()
    seen = steps(flat, [drawn(4, 3, 3, 0)], ImageSettings(steps=8, temperature=0.0), [0])
    assert len(seen) == 1 and seen[0].masked == (0,)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "arccos", "circle"])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_steps_follow_the_schedule(count: int, schedule: str) -> None:
    settings = ImageSettings(steps=count, schedule=schedule)
    seen = steps(MODEL, [drawn(4, 4, 3, 7)], settings, [3])
    planned = masked_counts(12, count, schedule)
    assert [step.masked[0] for step in seen] == planned
    assert [step.index for step in seen] == list(range(len(planned)))
    for step, old in zip(seen[1:], seen[:-1], strict=True):
        new = (old.ids[0] == VOCAB.mask) & (step.ids[0] != VOCAB.mask)
        assert torch.equal(new, step.revealed[0])
        assert bool((step.ids[0] == old.ids[0])[old.ids[0] != VOCAB.mask].all()), "a fixed cell never changes"
        assert bool((step.guess[0] >= VOCAB.image_offset).all())
        assert bool((step.probability[0] <= 1).all() and (step.probability[0] > 0).all())


def test_only_writable_cells_change() -> None:
    one = painted(5, 4, 4, 8)
    (last,) = steps(MODEL, [one], ImageSettings(steps=5), [3])[-1:]
    filled = last.page(0)
    assert torch.equal(filled.ids[~filled.writable], one.page.ids[~one.page.writable])
    assert int(filled.output_codes().min()) >= 0


def test_known_writable_cells_are_kept() -> None:
    """A page whose writable cells are partly known (a training page, a retouched one) keeps them."""
    body = blank(2, 3)
    body[0] = torch.tensor([3, 4, 5])
    one = Guided(picture_page(words(4, 1), body, VOCAB))
    filled = fill(MODEL, [one], ImageSettings(steps=2), [0])[0]
    assert filled[:3] == [VOCAB.image_offset + code for code in (3, 4, 5)]


def test_the_same_seed_gives_the_same_picture_with_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        pictures = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            pictures.append(fill(MODEL, MIXED, ImageSettings(steps=6), SEEDS))
    finally:
        torch.set_num_threads(before)
    assert pictures[0] == pictures[1] == pictures[2]


def test_other_seeds_give_other_pictures_and_temperature_zero_does_not_care() -> None:
    one = drawn(5, 4, 4, 1)
    assert fill(MODEL, [one], ImageSettings(steps=6), [1]) != fill(MODEL, [one], ImageSettings(steps=6), [2])
    greedy = ImageSettings(steps=6, temperature=0.0)
    assert fill(MODEL, [one], greedy, [1]) == fill(MODEL, [one], greedy, [2])


def test_top_k_of_one_chooses_like_temperature_zero() -> None:
    one = drawn(5, 1, 1, 1)
    greedy = fill(MODEL, [one], ImageSettings(steps=1, temperature=0.0), [1])
    assert fill(MODEL, [one], ImageSettings(steps=1, top_k=1), [5]) == greedy
    assert fill(MODEL, [one], ImageSettings(steps=1, top_p=1e-6), [5]) == greedy


def test_a_generator_for_each_page() -> None:
    with pytest.raises(ValueError, match="2 pages need as many generators, got 1"):
        list(fill_image(MODEL, MIXED[:2], ImageSettings(), [torch.Generator()]))


@pytest.mark.parametrize("policy", [NoCache(), *CACHED], ids=lambda policy: type(policy).__name__)
def test_half_precision_runs(policy: Policy) -> None:
    model = small_model(dtype=torch.bfloat16)
    for noise in ("exact", "reference"):
        (ids,) = fill(model, [drawn(5, 4, 4, 1)], ImageSettings(steps=5, noise=noise, policy=policy), [1])
        assert all(value >= VOCAB.image_offset for value in ids)
