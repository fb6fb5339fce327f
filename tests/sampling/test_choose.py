"""The pure choices: noise as distributions, scores, ties, cuts; and what is refused.

Broken on purpose to see these fail: exact noise for reference; a bfloat16 uniform of 1 left as it is; `>` for `>=` at
the cut; top-p that drops the id which crosses it; probabilities tempered.
"""

from __future__ import annotations

import math

import pytest
import torch
from engine_fixtures import generator
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from torch import Tensor

from dimoo.sampling.choose import (
    choose,
    gumbel,
    keep_likely,
    reveal_bounded_entropy,
    reveal_confident,
    reveal_count,
    reveal_highest,
)

CPU = torch.device("cpu")


def chi_square(counts: Tensor, expected: Tensor) -> float:
    """Sum of (o - e)² / e over cells, those expected less than 10 times pooled."""
    rare = expected < 10
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    keep = expected > 0
    return float(((counts - expected)[keep] ** 2 / expected[keep]).sum())


def test_exact_noise_is_gumbel() -> None:
    # Broken to try it: -log(u) alone; and the NaN of a minus that binds after clamp_min, which this file once found.
    noise = gumbel((200_000,), generator(), "exact", CPU)
    assert noise.dtype == torch.float32 and bool(torch.isfinite(noise).all())
    below = (-torch.exp(-torch.linspace(-2, 8, 40))).exp()  # the Gumbel distribution function
    measured = torch.stack([(noise <= at).float().mean() for at in torch.linspace(-2, 8, 40)])
    assert float((measured - below).abs().max()) < 0.005


def test_exact_choice_samples_the_softmax() -> None:
    # Broken to try it: temperature left out; reference noise instead.
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
    draws = choose(logits.expand(60_000, 5), generator(1), temperature=0.5).ids_M
    expected = (logits / 0.5).softmax(0) * 60_000
    assert chi_square(torch.bincount(draws, minlength=5).float(), expected) < 20  # 4 degrees: p about 5e-4


def direct_reference_draw(logits_MV: Tensor, seed: int) -> Tensor:
    """The authors' draw written down again: bfloat16 logits and noise, first argmax."""
    uniform = torch.rand(logits_MV.shape, generator=generator(seed)).bfloat16()
    uniform = uniform.masked_fill(uniform == 1, 0)
    tiny = torch.tensor(1e-20, dtype=torch.bfloat16)
    return (logits_MV.bfloat16() - torch.log(-torch.log(uniform + tiny) + tiny)).argmax(-1)


def test_reference_noise_agrees_with_a_direct_bfloat16_draw_and_exact_noise_does_not() -> None:
    """Frequencies of the ranks that are drawn, 256 ids at a spread of 3, against a direct draw with another seed."""
    # Broken to try it: noise="exact" in the place of "reference" gives a chi-square beyond 1,000.
    logits = (torch.randn(256, generator=generator(3)) * 3).sort(descending=True).values.expand(20_000, 256)
    direct = torch.bincount(direct_reference_draw(logits, 7), minlength=256).float()
    drawn = {
        noise: torch.bincount(choose(logits, generator(8), temperature=1.0, noise=noise).ids_M, minlength=256).float()
        for noise in ("reference", "exact")
    }
    cells = int((direct >= 10).sum()) + 1
    limit = 2 * (cells + 4 * math.sqrt(2 * cells))  # both sides are samples: the variance is twice that of one
    assert chi_square(drawn["reference"], direct) < limit
    assert chi_square(drawn["exact"], direct) > 5 * limit


def test_reference_noise_is_the_published_one() -> None:
    # Broken to try it: 1 not turned into 0 (then infinity); float32 throughout.
    noise = gumbel((400_000,), generator(), "reference", CPU)
    assert noise.dtype == torch.bfloat16
    assert float(noise.min()) == pytest.approx(-3.83, abs=0.01) and float(noise.max()) == pytest.approx(5.53, abs=0.01)
    assert float((noise == noise.min()).float().mean()) == pytest.approx(1 / 512, rel=0.15)


@pytest.mark.parametrize("noise", ["exact", "reference"])
def test_score_and_probability(noise: str) -> None:
    # Broken to try it: the softmax of logits / temperature; the score's noise not scaled by the temperature.
    logits = torch.randn(6, 9, generator=generator(1))
    temperature = 0.6
    choice = choose(logits, generator(2), temperature=temperature, noise=noise)
    again = generator(2)
    work = logits.bfloat16() if noise == "reference" else logits
    ids = (work / temperature + gumbel((6, 9), again, noise, CPU)).argmax(-1)
    chosen = work.softmax(-1).gather(-1, ids[:, None])[:, 0]
    assert torch.equal(choice.ids_M, ids) and torch.equal(choice.probability_M, chosen.float())
    assert torch.equal(choice.score_M, (chosen.log() + temperature * gumbel((6,), again, noise, CPU)).float())


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_the_order_has_a_temperature_of_its_own(spread: float) -> None:
    # Broken to try it: the score's noise scaled by `temperature`.
    logits = torch.randn(6, 9, generator=generator(1))
    choice = choose(logits, generator(2), temperature=1.5, choice_temperature=spread)
    again = generator(2)
    ids = (logits / 1.5 + gumbel((6, 9), again, "exact", CPU)).argmax(-1)
    assert torch.equal(choice.ids_M, ids), "ids are drawn as without it"
    sure = logits.softmax(-1).gather(-1, ids[:, None])[:, 0].log()
    assert torch.equal(choice.score_M, sure + (spread * gumbel((6,), again, "exact", CPU) if spread else 0.0))


def test_temperature_zero_is_the_first_argmax_without_a_draw() -> None:
    one = generator(5)
    before = one.get_state()
    logits = torch.tensor([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]])
    choice = choose(logits, one, temperature=0.0, noise="reference")
    assert choice.ids_M.tolist() == [1, 0]
    assert torch.equal(choice.score_M, logits.softmax(-1).gather(-1, choice.ids_M[:, None])[:, 0].log())
    assert torch.equal(one.get_state(), before)


def test_impossible_ids_are_never_chosen() -> None:
    logits = torch.randn(500, 8, generator=generator(1))
    logits[:, 3:6] = -torch.inf
    for noise in ("exact", "reference"):
        choice = choose(logits, generator(2), temperature=5.0, noise=noise)
        assert not set(choice.ids_M.tolist()) & {3, 4, 5}


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_top_k_keeps_k(seed: int, k: int) -> None:
    logits = torch.randn(4, 9, generator=generator(seed))
    kept = keep_likely(logits, top_k=k, top_p=None, temperature=1.0)
    assert (torch.isfinite(kept).sum(-1) == min(k, 9)).all()
    assert torch.equal(kept.topk(min(k, 9)).values, logits.topk(min(k, 9)).values)


@given(st.integers(0, 10_000), st.floats(0.01, 1.0), st.sampled_from([0.0, 0.5, 2.0]))
def test_top_p_keeps_the_smallest_set_that_reaches_p(seed: int, p: float, temperature: float) -> None:
    logits = torch.randn(3, 7, generator=generator(seed)) * 2
    kept = torch.isfinite(keep_likely(logits, top_k=None, top_p=p, temperature=temperature))
    share = (logits / (temperature or 1.0)).softmax(-1)
    for row in range(3):
        inside = share[row][kept[row]]
        assert float(inside.sum()) >= p - 1e-5
        assert float(inside.sum() - inside.min()) < p + 1e-5, "without its least it falls short"
        assert bool(kept[row].all()) or float(inside.min()) >= float(share[row][~kept[row]].max())


@given(st.integers(0, 10_000), st.floats(0.01, 1.0), st.floats(0.1, 20.0))
def test_top_p_is_found_without_sorting_everything(seed: int, p: float, spread: float) -> None:
    """The slow twin sorts all shares; flat rows and steep ones."""
    # Broken to try it: room for half as many; the id that crosses p left out.
    logits = torch.randn(5, 200, generator=generator(seed)) * spread
    ordered, order = logits.softmax(-1).sort(-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered >= p
    wanted = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
    assert torch.equal(keep_likely(logits, top_k=None, top_p=p, temperature=1.0), wanted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"top_k": 0}, "top_k must be at least 1, got 0"), ({"top_p": 0.0}, "top_p must lie in"), ({"top_p": 1.1}, "1.1")],
)
def test_wrong_cuts_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(torch.zeros(1, 4), generator(), temperature=1.0, **wrong)


def test_unknown_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="noise 'loud' is not one of exact, reference"):
        gumbel((1,), generator(), "loud", CPU)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(-1, 14))
def test_reveal_highest_reveals_ties(scores: list[int], left: int) -> None:
    score = torch.tensor(scores, dtype=torch.float32)
    revealed = reveal_highest(score, left)
    ordered = sorted(scores)
    for value, shown in zip(scores, revealed.tolist(), strict=True):
        stays = 0 < left and (left >= len(scores) or value < ordered[left])
        assert shown != stays
    assert int((~revealed).sum()) <= max(0, left)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 14))
def test_reveal_count_is_exact_and_the_first_of_equals_wins(scores: list[int], count: int) -> None:
    revealed = reveal_count(torch.tensor(scores, dtype=torch.float64), count).nonzero().flatten().tolist()
    assert revealed == sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])


def test_reveal_confident_takes_the_sure_ones_and_at_least_one() -> None:
    assert reveal_confident(torch.tensor([0.95, 0.2, 0.91]), 0.9).tolist() == [True, False, True]
    assert reveal_confident(torch.tensor([0.3, 0.2, 0.4]), 0.9).tolist() == [False, False, True]


@tries(max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.0, 5.0))
def test_bounded_entropy_is_the_longest_prefix(seed: int, bound: float) -> None:
    # Broken to try it: sum(H) <= bound, without taking the largest off.
    logits = torch.randn(6, 5, generator=generator(seed)) * 3
    logits[:, 4] = -torch.inf
    entropy = torch.distributions.Categorical(logits=logits[:, :4]).entropy()
    ordered = entropy.sort()
    longest = max(n for n in range(1, 7) if n == 1 or float(ordered.values[: n - 1].sum()) <= bound + 1e-6)
    revealed = set(reveal_bounded_entropy(logits, bound).nonzero().flatten().tolist())
    close = any(abs(float(ordered.values[:n].sum()) - bound) < 1e-4 for n in range(6))
    assert close or revealed == set(ordered.indices[:longest].tolist())
