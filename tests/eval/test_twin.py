"""The oracle itself: it is checked against the authors' answers in tests/parity; here that its waste is what it says.

A twin that were secretly fast would make every comparison of times meaningless.
"""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import VOCAB, Shapes, asked, drawn, edited, generator, leaning, small_model

from dimoo.eval.twin import Store, Twin
from dimoo.model.checkpoint import authors_parts
from dimoo.page.batch import pack
from dimoo.sampling.policies import MLCache, RevealAware
from dimoo.sampling.settings import ImageSettings, TextSettings

MODEL = small_model()
TWIN = Twin.from_model(MODEL)


def test_weights_are_split_and_shared_not_copied() -> None:
    names = {part.name for parts in authors_parts(MODEL.config).values() for part in parts}
    assert {f"model.transformer.{name}" for name in TWIN.weights} == names
    q = TWIN.weights["blocks.0.q_proj.weight"]
    assert q.data_ptr() == MODEL.blocks[0].qkv.weight.data_ptr()


def test_the_waste_is_there() -> None:
    """Ids through a list, the whole vocabulary everywhere, a float bias (1, 1, L, L), separate projections."""
    # Broken to try it: each of them, one after the other.
    ids = torch.arange(17) % VOCAB.size
    with Shapes() as shapes:
        logits = TWIN.logits(ids)
    assert logits.shape == (1, 17, VOCAB.size)
    assert "tolist" in shapes.called
    assert (1, 1, 17, 17) in shapes.seen
    assert (1, 17, 16) in shapes.seen and (1, 17, 64) not in shapes.seen, "keys alone, not merged with queries"


class Counting(Twin):
    """Notes the length of the page of each pass."""

    def logits(
        self, ids_L: torch.Tensor, *, store: Store | None = None, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        PASSES.append(len(ids_L))
        return super().logits(ids_L, store=store, rows=rows)


PASSES: list[int] = []


def test_every_branch_of_an_edit_runs_and_an_unguided_picture_has_one() -> None:
    PASSES.clear()
    twin = Counting.from_model(MODEL)
    one = edited(4, 2, 2, 1, scales=(0.0, 2.0))
    twin.edit(one, ImageSettings(steps=2), generator())
    assert PASSES == [len(one.page), *(len(page) for page, _ in one.contrasts)] * 2
    PASSES.clear()
    single = drawn(4, 2, 2, 1, scale=0.0)
    twin.picture(single, ImageSettings(steps=2), generator())
    assert PASSES == [len(single.page)] * 2


def test_an_answer_takes_every_step_and_weighs_the_whole_page() -> None:
    """As released: no early stop, and a float64 softmax over sequence x vocabulary at each step."""
    # Broken to try it: the softmax of the masked rows; an end that stops whatever the settings say.
    twin = Counting.from_model(leaning(1, answer_end=60.0))
    one = asked(5, 16, 1)
    for early_stop, passes in ((False, 16), (True, 4)):
        PASSES.clear()
        with Shapes() as shapes:
            ids = twin.text(one, TextSettings(steps=16, block_length=4, early_stop=early_stop), generator()).tolist()
        assert VOCAB.answer_end in ids[:4], "the test's model ends its answers"
        assert ((len(one.page), VOCAB.size), torch.float64) in shapes.typed
        assert len(PASSES) == 16 if not early_stop else len(PASSES) <= passes


def test_ml_cache_keeps_every_logit_of_the_page() -> None:
    store = Store()
    TWIN.logits(torch.arange(17) % VOCAB.size, store=store)
    assert store.logits is not None and store.logits.shape == (1, 17, VOCAB.size)


def test_half_precision_casts_the_bias_and_stays_close() -> None:
    # Broken to try it: no cast.
    half = small_model(dtype=torch.bfloat16)
    ids = torch.arange(17) % VOCAB.size
    with Shapes() as shapes:
        theirs = Twin.from_model(half).logits(ids)[0].float()
    assert ((1, 1, 17, 17), torch.float32) in shapes.typed and ((1, 1, 17, 17), torch.bfloat16) in shapes.typed
    ours = half.logits(half(*pack([ids])), 0, VOCAB.size).float()
    wide = TWIN.logits(ids)[0]
    assert float((theirs - wide).abs().mean()) < 0.1 * float(wide.abs().mean())
    assert float((theirs - ours).abs().mean()) < 0.1 * float(wide.abs().mean())


def test_what_the_authors_do_not_have_is_refused() -> None:
    with pytest.raises(AssertionError, match="as released"):
        TWIN.picture(drawn(3, 2, 2, 1), ImageSettings(steps=2, schedule="linear"), generator())
    with pytest.raises(AssertionError, match="the twin's cache is MLCache"):
        TWIN.picture_ml_cache(drawn(3, 2, 2, 1), ImageSettings(steps=2, policy=RevealAware()), generator())
    with pytest.raises(AssertionError, match="is an edit"):
        TWIN.picture(edited(3, 2, 2, 1), ImageSettings(steps=2), generator())
    assert len(TWIN.picture_ml_cache(drawn(3, 2, 2, 1), ImageSettings(steps=2, policy=MLCache()), generator())) == 4
