"""Sizes of the backbone: `ModelConfig`, the authors' keys for the same facts, and the named sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A LLaDA-style transformer (RMSNorm, rotary positions, SwiGLU, no biases, bidirectional)."""

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_ff: int
    vocab_size: int
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-5
    tied: bool = False

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.head_dim % 2:
            raise ValueError(f"the head size {self.head_dim} must be even for rotary positions")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def parameters(self) -> int:
        """Number of weights, computed from the sizes."""
        attention = 2 * self.d_model**2 + 2 * self.d_model * self.n_kv_heads * self.head_dim
        block = attention + 3 * self.d_model * self.d_ff + 2 * self.d_model
        tables = self.vocab_size * self.d_model * (1 if self.tied else 2)
        return tables + self.n_layers * block + self.d_model

    @classmethod
    def from_json(cls, values: dict[str, Any], *, origin: str) -> ModelConfig:
        """Read `config.json`, ours (model_type 'dimoo') or the authors' ('llada')."""
        kind = values.get("model_type")
        if kind == "dimoo":
            fields = dataclasses.fields(cls)
            names = {field.name for field in fields}
            needed = {field.name for field in fields if field.default is dataclasses.MISSING}
            if missing := sorted(needed - set(values)):
                raise ValueError(f"{origin}: missing keys {missing}")
            return cls(**{key: value for key, value in values.items() if key in names})
        if kind == "llada":
            return _from_authors(values, origin)
        raise ValueError(f"{origin}: model_type {kind!r} is not one of 'dimoo', 'llada'")

    def to_json(self) -> dict[str, Any]:
        return {"model_type": "dimoo", **dataclasses.asdict(self)}

    def to_authors_json(self) -> dict[str, Any]:
        """The same sizes in the authors' keys, as LLaDA's configuration spells them."""
        return {
            "architectures": ["LLaDAForMultiModalGeneration"],
            "model_type": "llada",
            "block_type": "llama",
            "activation_type": "silu",
            "layer_norm_type": "rms",
            "rope": True,
            "rope_full_precision": True,
            "include_bias": False,
            "include_qkv_bias": False,
            "alibi": False,
            "input_emb_norm": False,
            "scale_logits": False,
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "mlp_hidden_size": self.d_ff,
            "vocab_size": self.vocab_size,
            "embedding_size": self.vocab_size,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_eps,
            "weight_tying": self.tied,
        }


# What this backbone is; a configuration that asks for anything else is refused rather than run wrongly.
_AUTHORS_FIXED = {
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "rope": True,
    "include_bias": False,
    "include_qkv_bias": False,
    "alibi": False,
    "attention_layer_norm": False,
    "input_emb_norm": False,
    "scale_logits": False,
    "block_group_size": 1,
}


def _from_authors(values: dict[str, Any], origin: str) -> ModelConfig:
    for key, wanted in _AUTHORS_FIXED.items():
        if key in values and values[key] is not None and values[key] != wanted:
            raise ValueError(f"{origin}: {key} is {values[key]!r}, this backbone has {wanted!r} only")
    needed = ("d_model", "n_layers", "n_heads", "vocab_size")
    if missing := [key for key in needed if key not in values]:
        raise ValueError(f"{origin}: missing keys {missing}")
    multi_query = bool(values.get("multi_query_attention"))
    return ModelConfig(
        d_model=values["d_model"],
        n_layers=values["n_layers"],
        n_heads=values["n_heads"],
        n_kv_heads=values.get("n_kv_heads") or (1 if multi_query else values["n_heads"]),
        d_ff=values.get("mlp_hidden_size") or values.get("mlp_ratio", 4) * values["d_model"],
        vocab_size=values.get("embedding_size") or values["vocab_size"],
        rope_theta=values.get("rope_theta", 10_000.0),
        norm_eps=values.get("rms_norm_eps", 1e-5),
        tied=bool(values.get("weight_tying", True)),
    )


SIZES = {
    "8b": ModelConfig(
        d_model=4096, n_layers=32, n_heads=32, n_kv_heads=32, d_ff=12288, vocab_size=134_548, rope_theta=500_000.0
    ),
    "medium": ModelConfig(d_model=1024, n_layers=12, n_heads=16, n_kv_heads=16, d_ff=3072, vocab_size=12_000),
    "small": ModelConfig(d_model=256, n_layers=8, n_heads=4, n_kv_heads=4, d_ff=704, vocab_size=8192),
}
