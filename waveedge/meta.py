"""Networks on torch's meta device, where tensors have a shape and no data: they run at no cost."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

__all__ = ["on_meta"]

M = TypeVar("M", bound=nn.Module)


def on_meta(network: M) -> M:
    """A copy on torch's meta device; no data is copied, and what is shared stays shared."""
    memo: dict[int, Any] = {
        id(tensor): tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        for tensor in (*network.parameters(), *network.buffers())
    }
    return copy.deepcopy(network, memo)
