"""Key-value caches of single requests, and attention over a batch of them.

Each request keeps its own cache of its own length, so requests join and leave a batch without
padding or copying, and one request's answer never depends on another's length. transformers
hands keys and values through its cache object to its attention function unchanged, and both are
replaced here: the cache returns one tensor per row, the attention function takes them so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

ATTENTION = "param_rows"
"""Name under which transformers knows `rows_attention`."""

GROW_TOKENS = 256


class Row:
    """Keys and values of one request, all layers.

    Attributes:
        length: Tokens that are in the cache.
    """

    def __init__(self) -> None:
        self.length = 0
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values after those that are there.

        Args:
            keys: Shape (1, heads, new tokens, head size); likewise the values.

        Returns:
            All keys and values of the layer so far, as views.
        """
        end = self.length + keys.shape[2]
        stored = (self._store(self._keys, layer, keys), self._store(self._values, layer, values))
        return stored[0][:, :, :end], stored[1][:, :, :end]

    def _store(self, buffers: dict[int, Tensor], layer: int, new: Tensor) -> Tensor:
        buffer = buffers.get(layer)
        end = self.length + new.shape[2]
        if buffer is None or buffer.shape[2] < end:
            # A quarter more each time: copies stay rare and little memory waits unused.
            size = -(-max(end, self.length * 5 // 4) // GROW_TOKENS) * GROW_TOKENS
            grown = new.new_empty((1, new.shape[1], size, new.shape[3]))
            if buffer is not None:
                grown[:, :, : self.length] = buffer[:, :, : self.length]
            buffer = buffers[layer] = grown
        buffer[:, :, self.length : end] = new
        return buffer


class RowsCache:
    """What a model takes for its cache during one forward pass over some rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Store what one layer computed; called by the model's attention.

        Args:
            keys: Shape (rows, heads, new tokens, head size); likewise the values.
        """
        stored = [
            row.append(layer, keys[i : i + 1], values[i : i + 1])
            for i, row in enumerate(self._rows)
        ]
        return [pair[0] for pair in stored], [pair[1] for pair in stored]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens in the cache; only asked for where positions were not given."""
        return max(row.length for row in self._rows)


def rows_attention(
    module: torch.nn.Module,
    query: Tensor,
    keys: list[Tensor],
    values: list[Tensor],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each row over its own cache.

    Args:
        query: Shape (rows, query heads, new tokens, head size).
        keys: One tensor per row, shape (1, key heads, tokens so far, head size).
        attention_mask: Always None: each row is causal over exactly its own tokens.
        scaling: Factor of the scores; 1/sqrt(head size) by default.
        sliding_window: Most tokens that one token sees, itself included.

    Returns:
        Shape (rows, new tokens, query heads, head size), and no weights.
    """
    attend = _attend_one if query.shape[2] == 1 else _attend_many
    outputs = [
        attend(query[i : i + 1], keys[i], values[i], scaling, sliding_window)
        for i in range(query.shape[0])
    ]
    return torch.cat(outputs), None


def _attend_one(
    query: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    if window is not None and keys.shape[2] > window:
        keys, values = keys[:, :, -window:], values[:, :, -window:]
    # The query heads that share one key head stand in for query positions: nothing is repeated.
    grouped = query.view(1, keys.shape[1], -1, query.shape[3])
    return scaled_dot_product_attention(grouped, keys, values, scale=scaling).view(
        1, 1, query.shape[1], query.shape[3]
    )


def _attend_many(
    query: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    new, total = query.shape[2], keys.shape[2]
    mask = None
    if new != total or window is not None:
        at = torch.arange(total - new, total).unsqueeze(1)
        seen = torch.arange(total).unsqueeze(0)
        mask = seen <= at
        if window is not None:
            mask &= seen > at - window
    shared = query.shape[1] // keys.shape[1]
    out = scaled_dot_product_attention(
        query,
        keys.repeat_interleave(shared, 1),
        values.repeat_interleave(shared, 1),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
    )
    return out.transpose(1, 2)
