"""Schedules, hiding and the loss.

Broken on purpose to see these fail: ceil for floor; products in float64; a hidden newline; a mean over pages for a mean
over positions.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_fixtures import VOCAB, blank, generator, grid, words
from hypothesis import given
from hypothesis import strategies as st

from dimoo.diffusion.corrupt import corrupt
from dimoo.diffusion.loss import masked_cross_entropy, page_weights
from dimoo.diffusion.schedule import Schedule, even_counts, masked_counts, masked_share
from dimoo.page.page import Page, picture_page, text_page

schedules = st.sampled_from(["cosine", "linear", "arccos", "circle"])


@given(schedules, st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_shares_fall_from_one_to_zero(schedule: Schedule, progress: list[float]) -> None:
    share = masked_share(torch.tensor(sorted(progress), dtype=torch.float64), schedule)
    assert bool((share.diff() <= 1e-12).all()) and bool(((share >= 0) & (share <= 1)).all())
    ends = masked_share(torch.tensor([0.0, 1.0], dtype=torch.float64), schedule)
    torch.testing.assert_close(ends, torch.tensor([1.0, 0.0], dtype=torch.float64))


@given(st.integers(1, 5000), st.integers(1, 128), schedules)
def test_counts(total: int, steps: int, schedule: Schedule) -> None:
    # Broken to try it: a step that reveals nothing; a list that goes on after 0.
    counts = masked_counts(total, steps, schedule)
    assert len(counts) <= steps and counts[-1] == 0 and masked_counts(0, steps, schedule) == []
    before = [total, *counts[:-1]]
    assert all(after < now for now, after in zip(before, counts, strict=True))
    assert 0 not in counts[:-1]


@given(st.integers(1, 5000), st.integers(1, 128))
def test_counts_are_the_rule_in_float32(total: int, steps: int) -> None:
    masked, expected = total, []
    for step in range(steps):
        if masked == 0:
            break
        share = np.float32(math.cos(np.float32(np.float32((step + 1) / steps) * np.float32(math.pi / 2))))
        planned = int(np.floor(np.float32(total) * share))
        masked = 0 if step == steps - 1 else min(masked - 1, max(1, planned))
        expected.append(masked)
    assert masked_counts(total, steps) == expected


def test_sixty_thirds() -> None:
    """floor(60 cos(pi / 3)) is 29 in float32 (the fixtures' rules)."""
    # Broken to try it: float64 gives 30.
    assert masked_counts(60, 3)[1] == 29


@given(st.integers(0, 200), st.integers(1, 40))
def test_even_counts(total: int, steps: int) -> None:
    counts = even_counts(total, steps)
    assert sum(counts) == total and len(counts) == steps
    assert counts == sorted(counts, reverse=True) and max(counts) - min(counts) <= 1


def test_wrong_schedules() -> None:
    with pytest.raises(ValueError, match="schedule 'steep' is not one of cosine, linear, arccos, circle"):
        masked_share(torch.zeros(1), "steep")  # type: ignore[arg-type]
    for count in (masked_counts, even_counts):
        with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
            count(5, 0)


def a_page(kind: str, size: int, seed: int) -> Page:
    if kind == "text":
        return text_page(words(3, seed), words(size, seed), VOCAB)
    free = torch.rand(size, 3, generator=generator(seed)) < 0.6
    free[0, 0] = True
    return picture_page(words(3, seed), grid(size, 3, seed), VOCAB, writable_RC=free)


@given(st.sampled_from(["text", "picture"]), st.integers(1, 9), st.integers(0, 9999), schedules)
def test_hiding(kind: str, size: int, seed: int, schedule: Schedule) -> None:
    # Broken to try it: positions drawn over the whole page; max(1, ...) left out; ceil for floor.
    page = a_page(kind, size, seed)
    ids, hidden, ratio = corrupt(page, generator(seed), schedule=schedule)
    slots = int(page.writable.sum())
    assert not bool((hidden & ~page.writable).any())
    assert bool((ids[hidden] == VOCAB.mask).all()) and torch.equal(ids[~hidden], page.ids[~hidden])
    assert 0 <= ratio <= 1
    assert int(hidden.sum()) == (slots if slots <= 5 else max(1, int(ratio * slots)))
    again = corrupt(page, generator(seed), schedule=schedule)
    assert torch.equal(again[0], ids) and again[2] == ratio


def test_hidden_positions_are_uniform_and_ratios_follow_the_cosine() -> None:
    page = picture_page([1], grid(4, 5, 1), VOCAB)
    drawing = generator(3)
    drawn = [corrupt(page, drawing) for _ in range(4000)]
    share = torch.stack([hidden for _, hidden, _ in drawn]).float().mean(0)[page.slots]
    assert float((share - share.mean()).abs().max()) < 0.04
    ratios = torch.tensor([ratio for *_, ratio in drawn])
    assert float(ratios.mean()) == pytest.approx(2 / math.pi, abs=0.02)  # the mean of cos(pi r / 2)


def test_a_page_without_anything_to_hide() -> None:
    page = picture_page([1], grid(1, 2, 1), VOCAB, writable_RC=torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="no writable position to hide"):
        corrupt(page, generator())
    assert bool((corrupt(picture_page([1], blank(1, 2), VOCAB), generator())[1]).any())


def test_loss_is_the_mean_over_positions_and_weights_are_explicit() -> None:
    # Broken to try it: the sum; weights not divided by their sum.
    logits, targets = torch.randn(6, 9, generator=generator(1)), torch.tensor([0, 8, 3, 3, 1, 2])
    each = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(masked_cross_entropy(logits, targets), each.mean())
    torch.testing.assert_close(masked_cross_entropy(logits, targets, torch.full((6,), 7.0)), each.mean())
    weights = page_weights([4, 0, 2])
    torch.testing.assert_close(weights, torch.tensor([0.25] * 4 + [0.5] * 2))
    torch.testing.assert_close(masked_cross_entropy(logits, targets, weights), (each[:4].mean() + each[4:].mean()) / 2)
    assert masked_cross_entropy(logits.bfloat16(), targets).dtype == torch.float32


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_the_pages_is_hidden_whole(share: float) -> None:
    page = picture_page([1], grid(4, 4, 1), VOCAB)
    lot = generator(3)
    whole = [bool((corrupt(page, lot, whole_share=share)[1] == page.writable).all()) for _ in range(200)]
    assert abs(sum(whole) / 200 - share) < 0.12
