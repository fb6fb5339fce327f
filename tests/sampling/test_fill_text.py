"""Filling answers: against the twin, in batches, with caches; a real end; no mask left; ids that text may hold.

Broken on purpose to see these fail: one page's block plan for all; an early stop that ignores the masks before
`</answer>`; the argmax over every id; a store kept from the block before.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from engine_fixtures import VOCAB, Shapes, asked, fill, leaning, small_model, spy, steps, words
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from dimoo.eval.twin import Twin
from dimoo.page.page import text_page
from dimoo.sampling.guidance import Guided
from dimoo.sampling.policies import DualCache, MLCache, NoCache, Policy, RevealAware
from dimoo.sampling.settings import TextSettings
from dimoo.sampling.text import fill_text, pad_after_end

MODEL = small_model(4)
ENDING = leaning(4, answer_end=2.5)  # answers with `</answer>` now and then
TWIN = {False: Twin.from_model(MODEL), True: Twin.from_model(ENDING)}
MIXED = [asked(9, 16, 1), asked(4, 16, 2), asked(13, 16, 3), asked(4, 16, 4, closed=True)]
SEEDS = [11, 12, 13, 14]
CACHED: list[Policy] = [
    MLCache(cache_ratio=0.7, warmup_ratio=0.2, refresh_interval=3),
    RevealAware(warmup_ratio=0.2, refresh_interval=4),
    DualCache(),
]
EVERY_STEP: list[Policy] = [MLCache(refresh_interval=1), MLCache(cache_ratio=0.0), RevealAware(refresh_interval=1)]
RULES = [
    TextSettings(steps=8, block_length=8),
    TextSettings(steps=8, block_length=8, temperature=1.0),
    TextSettings(block_length=8, threshold=0.3),
    TextSettings(block_length=8, entropy_bound=2.0),
    TextSettings(steps=16, block_length=4, candidates="all", early_stop=False),
]


def by_name(value: object) -> str | None:
    return type(value).__name__ if not isinstance(value, TextSettings) else None


@pytest.mark.parametrize("settings", RULES)
@pytest.mark.parametrize("policy", [NoCache(), *CACHED], ids=by_name)
def test_a_batch_equals_its_members_alone(settings: TextSettings, policy: Policy) -> None:
    # Broken to try it: plans[active[0]] for every page; `inside` left out of the masked positions.
    settings = dataclasses.replace(settings, policy=policy)
    for model in (MODEL, ENDING):
        together = fill(model, MIXED, settings, SEEDS)
        assert together == [fill(model, [one], settings, [seed])[0] for one, seed in zip(MIXED, SEEDS, strict=True)]


@pytest.mark.parametrize("settings", RULES)
@pytest.mark.parametrize("policy", [*EVERY_STEP, DualCache(refresh_interval=1)], ids=by_name)
def test_a_cache_refreshed_at_every_step_changes_nothing(settings: TextSettings, policy: Policy) -> None:
    # Broken to try it: the store of the block before taken over.
    plain = fill(MODEL, MIXED, settings, SEEDS)
    assert fill(MODEL, MIXED, dataclasses.replace(settings, policy=policy), SEEDS) == plain


@tries(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    block=st.sampled_from([2, 4, 8]),
    each=st.integers(1, 4),
    temperature=st.sampled_from([0.0, 1.0]),
    candidates=st.sampled_from(["text", "all"]),
    early_stop=st.booleans(),
)
def test_answers_equal_the_twin(
    seed: int, block: int, each: int, temperature: float, candidates: str, early_stop: bool
) -> None:
    # Broken to try it: the remainder given to the last steps; confidences under the temperature; blocks from the right.
    settings = TextSettings(
        steps=each * (8 // block),
        block_length=block,
        temperature=temperature,
        candidates=candidates,
        early_stop=early_stop,
    )
    one = asked(seed % 6 + 2, 8, seed)
    for ending, model in ((False, MODEL), (True, ENDING)):
        expected = TWIN[ending].text(one, settings, torch.Generator().manual_seed(seed))
        assert fill(model, [one], settings, [seed]) == [expected.tolist()]


def test_inputs_are_not_changed() -> None:
    before = [one.page.ids.clone() for one in MIXED]
    seen = steps(MODEL, MIXED, RULES[0], SEEDS)
    assert all(torch.equal(ids, one.page.ids) for ids, one in zip(before, MIXED, strict=True))
    masked = [step.masked for step in seen]
    assert masked[0] == (14, 14, 14, 14) and masked[-1] == (0, 0, 0, 0)


def test_blocks_are_filled_from_the_left_by_an_even_share() -> None:
    seen = steps(MODEL, [MIXED[0]], TextSettings(steps=6, block_length=8, early_stop=False), [1])
    assert [int(step.revealed[0].sum()) for step in seen] == [3, 3, 2, 3, 3, 2]
    assert [bool(step.revealed[0][:8].any()) for step in seen] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("settings", RULES[:4])
def test_no_mask_is_left_and_only_text_is_written(settings: TextSettings) -> None:
    # Broken to try it: Candidates without `forbidden`; stop=vocab.size.
    model = leaning(4, mask=4.0, newline=4.0, boi=4.0)
    model.head.weight[VOCAB.image_offset :] *= 4
    for ids in fill(model, MIXED, settings, SEEDS):
        assert not set(ids) & set(VOCAB.not_text)
        assert max(ids) < VOCAB.image_offset
    authors = dataclasses.replace(RULES[4], temperature=settings.temperature)
    said = {value for ids in fill(model, MIXED, authors, SEEDS) for value in ids}
    assert VOCAB.mask in said or max(said) >= VOCAB.image_offset, "the test's model would say them if it could"


def test_early_stop_is_real() -> None:
    """Once `</answer>` stands with nothing masked before it, no pass is run any more, in this block or the next."""
    # Broken to try it: pad_after_end not called: every step runs.
    settings = TextSettings(steps=16, block_length=4)
    ran, ended = [], 0
    for seed in range(8):
        one = asked(5, 16, seed)
        with spy(ENDING) as rows:
            (ids,) = fill(ENDING, [one], settings, [0])
        ran.append(len(rows))
        if VOCAB.answer_end in ids:
            end = ids.index(VOCAB.answer_end)
            ended += end < 12
            assert set(ids[end + 1 :]) <= {VOCAB.answer_pad}
            assert len(rows) <= 4 * (end // 4 + 1), "no block after the end is touched"
    assert ended >= 2 and min(ran) < 16 == max(ran), "the test's model ends some answers early and others not"
    with spy(ENDING) as rows:
        fill(ENDING, [asked(5, 16, ran.index(min(ran)))], dataclasses.replace(settings, early_stop=False), [0])
    assert len(rows) == 16


@pytest.mark.parametrize("block", [2, 4, 8])
def test_an_early_stop_changes_nothing_that_is_read(block: int) -> None:
    # Broken to try it: pad_after_end that does not ask whether everything before the end is filled.
    settings, shorter = TextSettings(steps=16, block_length=block), 0
    for seed in range(24):
        (early,) = fill(ENDING, [asked(5, 16, seed)], settings, [0])
        (whole,) = fill(ENDING, [asked(5, 16, seed)], dataclasses.replace(settings, early_stop=False), [0])
        end = whole.index(VOCAB.answer_end) if VOCAB.answer_end in whole else len(whole)
        assert early[: end + 1] == whole[: end + 1]
        shorter += early != whole
    assert shorter >= 4, "the test's model goes on after many an end"


def test_a_member_that_has_ended_does_not_stop_the_others() -> None:
    settings = TextSettings(steps=16, block_length=4)
    members = [asked(5, 16, seed) for seed in range(8)]
    together = fill(ENDING, members, settings, [0] * 8)
    assert together == [fill(ENDING, [one], settings, [0])[0] for one in members]


@given(st.lists(st.sampled_from([1, VOCAB.answer_end, VOCAB.mask, VOCAB.answer_pad]), min_size=1, max_size=8))
def test_padding_after_the_end(ids: list[int]) -> None:
    # Broken to try it: the last `</answer>` for the first.
    padded = pad_after_end(torch.tensor(ids), VOCAB).tolist()
    end = ids.index(VOCAB.answer_end) if VOCAB.answer_end in ids else len(ids)
    if end == len(ids) or VOCAB.mask in ids[:end]:
        assert padded == ids
    else:
        assert padded == ids[: end + 1] + [VOCAB.answer_pad] * (len(ids) - end - 1)


@pytest.mark.parametrize("settings", RULES[2:4])
def test_rules_reveal_what_is_sure_and_at_least_one(settings: TextSettings) -> None:
    # Broken to try it: the even share in their place: eight steps a block, one each.
    sharp = small_model(4)
    sharp.head.weight.mul_(4)
    seen = steps(sharp, [MIXED[0]], dataclasses.replace(settings, early_stop=False), [0])
    revealed = [int(step.revealed[0].sum()) for step in seen]
    assert min(revealed) >= 1 and sum(revealed) == 16 and len(seen) < 16


def test_a_threshold_of_one_reveals_one_a_step() -> None:
    seen = steps(MODEL, [MIXED[0]], TextSettings(block_length=8, threshold=1.0, early_stop=False), [0])
    assert [int(step.revealed[0].sum()) for step in seen] == [1] * 16


def test_dual_cache_computes_only_what_is_masked_or_new_in_the_block() -> None:
    # Broken to try it: rows of all masked positions of the page, later blocks included.
    settings = TextSettings(steps=8, block_length=8, policy=DualCache(), early_stop=False)
    with spy(MODEL) as rows:
        fill(MODEL, [MIXED[0]], settings, [0])
    total = len(MIXED[0].page)
    assert rows == [total, 8, 6, 4, total, 8, 6, 4]


def test_no_tensor_of_sequence_times_vocabulary() -> None:
    with Shapes() as shapes:
        fill(MODEL, [asked(20, 8, 1)], TextSettings(steps=4, block_length=4), [1])
    rows = [shape[0] for shape in shapes.seen if len(shape) == 2 and shape[1] in (VOCAB.image_offset, VOCAB.size)]
    assert max(rows) == 4, "logits of the block only"


def test_text_can_be_guided_and_a_weight_of_zero_costs_nothing() -> None:
    def guided(scale: float) -> Guided:
        other = text_page(words(3, 5), [VOCAB.mask] * 8, VOCAB)
        return Guided(text_page(words(6, 4), [VOCAB.mask] * 8, VOCAB), ((other, scale),))

    settings = TextSettings(steps=4, block_length=8)
    plain = fill(MODEL, [Guided(guided(0.0).page)], settings, [0])
    assert fill(MODEL, [guided(0.0)], settings, [0]) == plain
    assert fill(MODEL, [guided(5.0)], settings, [0]) != plain
    with spy(MODEL) as rows:
        fill(MODEL, [guided(0.0)], settings, [0])
    assert rows == [len(guided(0.0).page)] * 4


def test_known_positions_of_an_answer_are_kept() -> None:
    mask = VOCAB.mask
    one = Guided(text_page(words(5, 1), [3, mask, 5, mask, 3, 3, 3, 3], VOCAB))
    (ids,) = fill(MODEL, [one], TextSettings(steps=4, block_length=4, early_stop=False), [0])
    assert [ids[i] for i in (0, 2, 4, 5, 6, 7)] == [3, 5, 3, 3, 3, 3] and mask not in ids


@pytest.mark.parametrize(
    ("length", "settings", "message"),
    [
        (12, TextSettings(steps=8, block_length=8), "length 12 is not a multiple of block_length 8"),
        (16, TextSettings(steps=9, block_length=8), "steps 9 is not a multiple of the 2 blocks"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(length: int, settings: TextSettings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fill(MODEL, [asked(4, length, 1)], settings, [0])


def test_answers_of_a_batch_are_equally_long_and_each_has_a_generator() -> None:
    with pytest.raises(ValueError, match=r"equal lengths, got \[8, 16\]"):
        fill(MODEL, [asked(4, 8, 1), asked(4, 16, 1)], RULES[0], [0, 1])
    with pytest.raises(ValueError, match="1 pages need as many generators, got 2"):
        list(fill_text(MODEL, [asked(4, 8, 1)], RULES[0], [torch.Generator(), torch.Generator()]))
