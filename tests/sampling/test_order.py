"""The Halton order, and steps that reveal more than planned."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from engine_fixtures import VOCAB, drawn, fill, generator, painted, small_model, steps
from hypothesis import given
from hypothesis import strategies as st

from dimoo.diffusion.schedule import masked_counts
from dimoo.sampling.order import halton_rank, halton_scores
from dimoo.sampling.policies import RevealAware
from dimoo.sampling.settings import ImageSettings

MODEL = small_model()


def halton_slowly(rows: int, columns: int) -> list[tuple[int, int]]:
    """Cells in the order of the sequence, number by number."""

    def inverse(index: int, base: int) -> float:
        value, scale = 0.0, 1.0
        while index:
            scale /= base
            value += index % base * scale
            index //= base
        return value

    side, index, found = max(rows, columns), 0, []
    while len(found) < rows * columns:
        cell = (math.floor(inverse(index, 2) * side + 1e-12), math.floor(inverse(index, 3) * side + 1e-12))
        if cell[0] < rows and cell[1] < columns and cell not in found:
            found.append(cell)
        index += 1
    return found


@given(st.integers(1, 8), st.integers(1, 8))
def test_ranks_follow_the_sequence(rows: int, columns: int) -> None:
    rank_RC = halton_rank(rows, columns)
    assert sorted(rank_RC.flatten().tolist()) == list(range(rows * columns))
    slow = halton_slowly(rows, columns)
    assert [int(rank_RC[cell]) for cell in slow] == list(range(rows * columns))


def test_the_first_cells_are_spread() -> None:
    """A quarter of the cells of a large grid: every quadrant of every quadrant has some."""
    first = halton_rank(16, 16) < 64
    assert int(first.unflatten(0, (4, 4)).unflatten(2, (4, 4)).sum((1, 3)).min()) >= 2


def test_cells_are_revealed_in_order_from_a_place_drawn_by_lot() -> None:
    one = painted(5, 4, 5, 2)
    seen = steps(MODEL, [one], ImageSettings(steps=4, order="halton"), [7])
    scores = halton_scores(one.page, generator(7))
    for step, later in itertools.pairwise(seen):
        assert scores[step.revealed[0]].min() > scores[later.revealed[0]].max()
    starts = {float(halton_scores(one.page, generator(seed)).max()) for seed in range(20)}
    assert len({int(halton_scores(drawn(4, 4, 5, 1).page, generator(s)).argmax()) for s in range(20)}) > 5, starts


def test_order_and_cache_go_together() -> None:
    one = drawn(6, 4, 4, 3)
    every = fill(MODEL, [one], ImageSettings(steps=6, order="halton", policy=RevealAware(refresh_interval=1)), [1])
    assert every == fill(MODEL, [one], ImageSettings(steps=6, order="halton"), [1])


def test_a_bound_of_zero_adds_the_surest_cell_at_most() -> None:
    seen = steps(MODEL, [drawn(4, 4, 4, 7)], ImageSettings(steps=6, entropy_bound=0.0), [3])
    plan = masked_counts(16, 6)
    for before, after in zip([16, *(step.masked[0] for step in seen)], seen, strict=False):
        planned = next(count for count in plan if count < before)
        assert planned - 1 <= after.masked[0] <= planned


def test_a_generous_bound_ends_sooner_and_a_page_follows_its_own_clock() -> None:
    settings = ImageSettings(steps=12, entropy_bound=3.0)
    both = [drawn(4, 4, 5, 7), drawn(4, 2, 2, 8)]
    seen = steps(MODEL, both, settings, [3, 4])
    plan = masked_counts(20, 12)
    assert len(seen) < 12
    for before, after in itertools.pairwise(seen):
        reached = next(count for count in plan if count < before.masked[0])
        assert after.masked[0] <= reached, "never behind the plan from where it stands"
    assert seen[-1].masked == (0, 0)
    alone = [fill(MODEL, [one], settings, [seed])[0] for one, seed in zip(both, [3, 4], strict=True)]
    assert fill(MODEL, both, settings, [3, 4]) == alone
    assert all(bool((ids != VOCAB.mask).all()) for ids in seen[-1].ids)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match="spiral"):
        ImageSettings(order="spiral")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-1"):
        ImageSettings(entropy_bound=-1.0)
    assert torch.equal(halton_rank(1, 1), torch.zeros(1, 1, dtype=torch.int64))
