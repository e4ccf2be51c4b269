"""A copy of a user's network that can be run and changed without touching the original."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from waveedge.errors import InputError

__all__ = ["detached_copy"]


def detached_copy(model: nn.Module) -> nn.Module:
    """Copy a network: in eval mode, in float32 (float64 stays), on the CPU.

    The original keeps its mode, device, statistics and gradients.

    Raises:
        InputError: the network holds something that Python cannot copy.
    """
    # A tensor that a hook computed (weight_norm keeps its weight so) belongs to a graph of
    # gradients, and torch refuses to copy it.
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:  # whatever the network's own objects raise
        raise InputError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}",
            hint="Keep files, locks and generators out of the module, or give it __deepcopy__.",
        ) from error
    copied = copied.cpu().eval()
    dtypes = {tensor.dtype for tensor in copied.parameters() if tensor.is_floating_point()}
    half = any(dtype.itemsize < 4 for dtype in dtypes)
    return copied.float() if half else copied
