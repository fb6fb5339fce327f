"""What a sampler keeps between steps: per layer the keys (rotated) and values of every row, and last hidden states.

The store belongs to the caller, who passes it to the backbone; a full step fills it, a partial step overwrites the
rows it computes and attends to all. Logits are not stored: the final hidden state gives them again exactly, at a
fraction of the size (d_model numbers a row instead of one for every id).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from dimoo.page.batch import Rows


@dataclass(eq=False)
class Cache:
    """Keys and values (T, Nkv, H) of each layer and hidden states (T, D); allocated at the first full step."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    hidden_TD: Tensor | None = None

    def store(self, layer: int, keys: Tensor, values: Tensor, rows: Rows | None) -> tuple[Tensor, Tensor]:
        """Keep the keys and values of `rows` (None: of all); give back those of every row."""
        if rows is not None:
            self.keys[layer].index_copy_(0, rows.index, keys)
            self.values[layer].index_copy_(0, rows.index, values)
            return self.keys[layer], self.values[layer]
        keys, values = keys.contiguous(), values.contiguous()  # views would keep all that they are views of alive
        if layer == len(self.keys):
            self.keys.append(keys)
            self.values.append(values)
        else:
            self.keys[layer], self.values[layer] = keys, values
        return keys, values

    def store_hidden(self, hidden_MD: Tensor, rows: Rows | None, total: int) -> None:
        if rows is None:
            self.hidden_TD = hidden_MD
            return
        if self.hidden_TD is None:
            self.hidden_TD = hidden_MD.new_zeros(total, hidden_MD.shape[1])
        self.hidden_TD.index_copy_(0, rows.index, hidden_MD)

    @property
    def filled(self) -> bool:
        return bool(self.keys)
