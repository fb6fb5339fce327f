"""A whole checkpoint with small random weights, made on the spot: for demonstrations without weights, and for tests.

In: an empty folder. Out: in it, everything that a checkpoint has (config.json, model.safetensors, tokenizer.json,
vocab.json, dimoo.json, vqvae/). It runs every task in a moment; its pictures and answers mean nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from dimoo.model.checkpoint import save_model
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.tokenizers.image import vq_model
from dimoo.vocab import AUTHORS_TOKENS, Vocab

PAD = "<pad>"
TAGS = ("<system>", "</system>", "<user>", "</user>", *AUTHORS_TOKENS.values(), PAD)
SENTENCES = (
    "a red fox to the left of a green tree on a blue background",
    "What is in the picture? Two apples and a small house.",
    "Generate an image according to the text prompt. Remove the sun from the picture.",
)

# What `dimoo.json` of this checkpoint recommends: everything small.
DEFAULTS: dict[str, Any] = {
    "height": 64,
    "width": 64,
    "edit_area": 64,
    "understand_area": 64,
    "bucket_patch": 16,
    "prompt_limit": 384,
    "noise": "exact",
    "steps": 6,
    "cfg_scale": 2.0,
    "edit_cfg_scale": 1.5,
    "edit_cfg_img": 1.5,
    "answer_length": 16,
    "block_length": 16,
    "text_steps": 8,
    "name": "random weights",
}


def make_random_checkpoint(
    folder: Path, *, seed: int = 0, d_model: int = 32, n_layers: int = 2, codes: int = 64, vq_width: int = 16
) -> Path:
    """Write the checkpoint and give back its folder. The same seed gives the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = _write_tokenizer(folder, codes)
    vocab.save(folder)
    (folder / "dimoo.json").write_text(json.dumps(DEFAULTS, indent=1) + "\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _write_backbone(folder, vocab, d_model=d_model, n_layers=n_layers)
        _write_vq(folder / "vqvae", codes, vq_width)
    return folder


def _write_backbone(folder: Path, vocab: Vocab, *, d_model: int, n_layers: int) -> None:
    config = ModelConfig(
        d_model=d_model, n_layers=n_layers, n_heads=2, n_kv_heads=2, d_ff=2 * d_model, vocab_size=vocab.size
    )
    model = Transformer(config)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            wide = {"embedding.weight": 1.0, "head.weight": 0.5 / d_model**0.5}
            torch.nn.init.normal_(parameter.data, std=wide.get(name, 2 / d_model**0.5))
    save_model(model, folder)


def _write_tokenizer(folder: Path, codes: int) -> Vocab:
    """A byte-level BPE that knows a few sentences, with the tags; the vocabulary that follows from it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(TAGS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = tokenizer.get_vocab_size()
    ids: dict[str, int] = {tag: index for tag, index in tokenizer.get_vocab().items() if tag in TAGS}
    return Vocab(
        size=text + codes,
        image_offset=text,
        **{name: ids[token] for name, token in AUTHORS_TOKENS.items()},
        answer_pad=ids[PAD],
        structural=tuple(ids[tag] for tag in ("<system>", "</system>", "<user>", "</user>")),
    )


def _write_vq(folder: Path, codes: int, width: int) -> None:
    """A VQ model of factor 16: patches of 4 x 4 pixels, then two halvings."""
    vq = vq_model()(
        in_channels=48,
        out_channels=48,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(width,) * 3,
        layers_per_block=1,
        latent_channels=width,
        vq_embed_dim=8,
        num_vq_embeddings=codes,
        norm_num_groups=4,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    torch.nn.init.normal_(vq.quantize.embedding.weight.data)
    torch.nn.init.constant_(vq.decoder.conv_out.bias.data, 0.5)  # mid-grey, so that colours are not clipped
    vq.save_pretrained(str(folder))
