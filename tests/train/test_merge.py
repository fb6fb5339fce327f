"""Merging codes: what stays is apart, what goes has a near namesake, and the smaller model is a whole one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dimoo.train.merge import merge_codes, representatives
from dimoo.train.vq import VqShape, build_vq

UNITS = F.normalize(torch.tensor([[1.0, 0.0], [0.999, 0.04], [0.0, 1.0], [0.05, 0.999], [0.7, 0.7]]), dim=-1)


def test_the_most_used_of_near_codes_stays() -> None:
    assert representatives(UNITS, torch.tensor([1, 5, 9, 2, 0]), cosine=0.99).tolist() == [2, 1, 4]
    assert representatives(UNITS, torch.tensor([5, 1, 2, 9, 0]), cosine=0.99).tolist() == [3, 0, 4]
    assert representatives(UNITS, torch.tensor([5, 1, 2, 9, 0]), cosine=0.6).tolist() == [3, 0]


def test_the_smaller_model_keeps_its_networks_and_the_codes_that_stay() -> None:
    torch.manual_seed(0)
    vq = build_vq(VqShape(channels=(16, 16, 16), codes=200, code_size=3, latent=8))
    smaller, new_K = merge_codes(vq, torch.arange(200), cosine=0.9)
    codes = smaller.quantize.embedding.weight
    assert len(codes) == smaller.config["num_vq_embeddings"] < 200
    assert new_K.shape == (200,) and sorted(set(new_K.tolist())) == list(range(len(codes)))
    assert float((vq.quantize.embedding.weight * codes[new_K]).sum(-1).min()) > 0.9
    near = codes @ codes.T - 2 * torch.eye(len(codes))
    assert float(near.max()) <= 0.9
    for name, value in smaller.decoder.state_dict().items():
        assert torch.equal(value, vq.decoder.state_dict()[name])


@pytest.mark.parametrize("cosine", [0.0, 1.0])
def test_a_cosine_that_merges_all_or_nothing_is_refused(cosine: float) -> None:
    vq = build_vq(VqShape(channels=(16, 16, 16), codes=8, code_size=3, latent=8))
    with pytest.raises(ValueError, match="cosine must lie between 0 and 1"):
        merge_codes(vq, torch.ones(8), cosine=cosine)
