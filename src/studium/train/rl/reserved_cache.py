"""A key-value cache of transformers with room for every token to come: none is copied when the next one is added.

transformers' own grows by concatenation, which copies all of it for every token. What is computed is the same, bit for
bit. Imports transformers; import it where replies are drawn.
"""

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


def reserved_cache(config: Any, slots: int) -> DynamicCache:
    """Return an empty cache for at most `slots` tokens a row; layers that look back a window only grow as they do."""
    cache = DynamicCache(config=config)
    cache.layers = [_Reserved(slots) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _Reserved(DynamicLayer):
    """`keys` and `values` are the filled part of tensors that were made once."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self._slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._hold(key_states[:, :, :0], value_states[:, :, :0])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        first = self._filled
        self._filled += key_states.shape[-2]
        self._all_keys[:, :, first : self._filled] = key_states
        self._all_values[:, :, first : self._filled] = value_states
        return self._show()

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        if self.is_initialized:
            keys, values = self._show()
            self._hold(keys[indices], values[indices])

    def _hold(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Take over what is filled, with room behind it."""
        self._filled = keys.shape[-2]
        self._all_keys = keys.new_empty((*keys.shape[:2], self._slots, keys.shape[-1]))
        self._all_values = values.new_empty((*values.shape[:2], self._slots, values.shape[-1]))
        self._all_keys[:, :, : self._filled] = keys
        self._all_values[:, :, : self._filled] = values
        self._show()

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._all_keys[:, :, : self._filled], self._all_values[:, :, : self._filled]
        self.keys, self.values = keys, values
        return keys, values
