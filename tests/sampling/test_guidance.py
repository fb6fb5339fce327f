"""Guided logits: the two ways of writing them, in the dtype asked for; what a guided page must be."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import VOCAB, drawn, grid, words

from dimoo.page.page import picture_page
from dimoo.sampling.guidance import Guided, combine


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_are_the_authors(dtype: torch.dtype) -> None:
    # Broken to try it: one formula for both: bfloat16 rounds them differently.
    c, u, v = (torch.randn(50, 30, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    cd, ud, vd = (part.to(dtype) for part in (c, u, v))
    assert torch.equal(combine([c, u], [4.0], dtype), (1 + 4.0) * cd - 4.0 * ud)
    assert torch.equal(combine([c, u, v], [2.5, 4.0], dtype), cd + 2.5 * (cd - ud) + 4.0 * (cd - vd))
    assert torch.equal(combine([c], [], dtype), cd)
    exact = combine([c.double(), u.double()], [4.0], torch.float64)
    torch.testing.assert_close(exact, c.double() + 4.0 * (c.double() - u.double()))


def test_only_contrasts_that_count_are_branches() -> None:
    one = drawn(3, 2, 2, 1, scale=0.0)
    assert one.branches == (one.page,) and one.scales == ()
    assert drawn(3, 2, 2, 1, scale=-1.0).scales == (-1.0,)


def test_a_page_with_nothing_to_fill_is_refused() -> None:
    page = picture_page(words(3, 1), grid(2, 2, 1), VOCAB, writable_RC=torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="no position is writable"):
        Guided(page)


def test_branches_have_the_same_writable_positions() -> None:
    with pytest.raises(AssertionError, match="same writable positions"):
        Guided(drawn(3, 2, 2, 1).page, ((drawn(3, 2, 3, 1).page, 1.0),))
