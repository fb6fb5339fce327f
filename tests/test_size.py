"""Costs worked out without weights agree with costs of real runs, and with the bounds that the engine must keep."""

import pytest
import torch

from dimoo.eval.size import (
    Ledger,
    decoding_cost,
    expected_seconds,
    free_memory,
    measure_speed,
    named_vocab,
    picture_pages,
    sampling_cost,
    vq_factor,
    weight_bytes,
)
from dimoo.model.config import SIZES, ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.page.page import Page, text_page
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import fill_image
from dimoo.sampling.policies import DualCache, MLCache, NoCache, Policy, RevealAware
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.sampling.text import fill_text
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.vocab import Vocab, authors_vocab

SMALL = ModelConfig(d_model=64, n_layers=5, n_heads=4, n_kv_heads=4, d_ff=192, vocab_size=1000)


def small_vocab() -> Vocab:
    return named_vocab(SMALL)


def test_parameters_of_the_named_sizes() -> None:
    assert SIZES["8b"].parameters == 8_081_805_312
    assert weight_bytes(SIZES["8b"], torch.bfloat16) == 2 * 8_081_805_312
    for config in SIZES.values():
        with torch.device("meta"):
            model = Transformer(config)
        assert sum(parameter.numel() for parameter in model.parameters()) == config.parameters


@pytest.mark.parametrize("size", [(1024, 1024, 8.68, 4.35), (768, 1536, 9.86, 4.95)])
def test_flops_of_the_big_model(size: tuple[int, int, float, float]) -> None:
    """64 steps, guidance on, 100 prompt ids, 14 unconditional ids: uncached, and with the authors' ML-Cache."""
    height, width, plain, cached = size
    guided = picture_pages(authors_vocab(), height, width, 16)
    assert len(guided.page) - len(guided.branches[1]) == 100 - 14
    found = []
    for policy in (NoCache(), MLCache(cache_ratio=0.9, warmup_ratio=0.3, refresh_interval=5)):
        cost = sampling_cost(SIZES["8b"], [guided], ImageSettings(steps=64, policy=policy), torch.bfloat16)
        found.append(cost.flops / 1e15)
        if isinstance(policy, NoCache):
            assert cost.working_bytes + weight_bytes(SIZES["8b"], torch.bfloat16) <= 20e9
    assert 0.9 * plain < found[0] <= plain
    assert 0.9 * cached < found[1] <= cached


@pytest.mark.parametrize("policy", [NoCache(), MLCache(refresh_interval=3), RevealAware(refresh_interval=3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_of_a_picture_is_what_a_run_holds(policy: Policy, dtype: torch.dtype) -> None:
    """Live tensors counted while really sampling on a scaled-down model. Fails if caches keep views of whole products
    (tried: without `contiguous` in the cache's store both counts double), or if a step held logits of every row."""
    guided = [picture_pages(small_vocab(), height, 160, 16) for height in (160, 128)]
    settings = ImageSettings(steps=6, policy=policy)
    estimate = sampling_cost(SMALL, guided, settings, dtype)
    model = Transformer(SMALL).to(dtype).requires_grad_(False)
    with torch.inference_mode(), Ledger() as ledger:
        for _ in fill_image(model, guided, settings, [torch.Generator().manual_seed(i) for i in range(2)]):
            pass
    assert estimate.working_bytes == pytest.approx(ledger.peak, rel=0.1)


@pytest.mark.parametrize("policy", [NoCache(), DualCache()])
def test_memory_of_an_answer(policy: Policy) -> None:
    vocab = small_vocab()
    guided = [Guided(text_page([10] * 50, [vocab.mask] * 64, vocab))]
    settings = TextSettings(steps=8, block_length=32, policy=policy, early_stop=False)
    estimate = sampling_cost(SMALL, guided, settings, torch.float32)
    model = Transformer(SMALL).requires_grad_(False)
    with torch.inference_mode(), Ledger() as ledger:
        for _ in fill_text(model, guided, settings, [torch.Generator()]):
            pass
    assert estimate.working_bytes == pytest.approx(ledger.peak, rel=0.1)


def test_layers_are_extrapolated() -> None:
    """The long way, for the same answer: a walk over all layers."""
    from dimoo.eval.size import _walk

    guided = [picture_pages(small_vocab(), 96, 96, 16)]
    for policy in (NoCache(), RevealAware(refresh_interval=2)):
        settings = ImageSettings(steps=4, policy=policy)
        quick, long = (cost(SMALL, guided, settings, torch.float32) for cost in (sampling_cost, _walk))
        assert quick.flops == long.flops
        assert quick.working_bytes == pytest.approx(long.working_bytes, rel=0.05)


def test_costs_follow_what_is_asked() -> None:
    vocab = small_vocab()

    def flops(height: int = 96, steps: int = 4, scale: float = 4.0, n: int = 1) -> int:
        guided = [picture_pages(vocab, height, 96, 16, scale=scale)] * n
        return sampling_cost(SMALL, guided, ImageSettings(steps=steps), torch.float32).flops

    def flops_of(page: Page) -> int:
        return sampling_cost(SMALL, [Guided(page)], ImageSettings(steps=4), torch.float32).flops

    usual = flops()
    assert flops(n=2) == 2 * usual
    assert flops(scale=0.0) < 0.8 * usual
    assert flops(height=192) > 1.5 * usual
    assert flops(steps=8) == pytest.approx(2 * usual, rel=0.1)


def test_decoding_costs_what_the_vq_model_holds(random_checkpoint) -> None:  # type: ignore[no-untyped-def]
    tokenizer = ImageTokenizer.load(random_checkpoint)
    assert vq_factor(dict(tokenizer.vq.config)) == tokenizer.factor
    cost = decoding_cost(dict(tokenizer.vq.config), 16, 12)
    codes = torch.zeros(16, 12, dtype=torch.int64)
    with Ledger() as ledger:
        tokenizer.decode(codes)
    assert cost.working_bytes == pytest.approx(ledger.peak, rel=0.1)
    assert cost.flops == pytest.approx(ledger.flops, rel=0.05)


def test_speed_and_memory_of_this_machine() -> None:
    cpu = torch.device("cpu")
    speed = measure_speed(cpu, torch.float32)
    assert speed > 1e8
    free = free_memory(cpu)
    assert free is None or free > 10_000_000
    guided = [picture_pages(small_vocab(), 96, 96, 16)]
    cost = sampling_cost(SMALL, guided, ImageSettings(steps=2), torch.float32)
    assert expected_seconds(cost, speed) > 0
