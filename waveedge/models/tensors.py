"""Turn the tensors of a checkpoint into ordinary ones, once it is known that they are wanted."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

import torch
from torch import Tensor

from waveedge.errors import CheckpointError
from waveedge.models.pickles import StandIn, StoredTensor
from waveedge.models.statedict import State

__all__ = ["check_tensors", "plain_tensors"]

_SHARING = 16
"""How many times as large as its file a state dict may be: tied weights lie in a file once."""


def check_tensors(state: State, file_size: int) -> None:
    """Check the kinds and sizes of tensors before one of them is loaded.

    Args:
        state: tensors by name.
        file_size: bytes of the file that they come from.

    Raises:
        CheckpointError: a tensor is sparse, complex, quantized or without data; or together they
            are so much larger than the file that they cannot be weights.
    """
    for name, tensor in state.items():
        kind = _unusable(tensor)
        if kind:
            raise CheckpointError(
                f"{name} is {kind}", hint="Save the weights as ordinary float tensors."
            )
    sizes = {name: prod(tensor.shape) * tensor.dtype.itemsize for name, tensor in state.items()}
    total = sum(sizes.values())
    if total > _SHARING * file_size:
        largest = max(sizes, key=lambda name: sizes[name])
        raise CheckpointError(
            f"its tensors would take {total:.3g} bytes, the file has {file_size}: {largest} was "
            "expanded",
            hint="Save weights that were trained, not views of a single number.",
        )


def _unusable(tensor: Any) -> str:
    if isinstance(tensor, StandIn):
        kinds = {"sparse": "a sparse tensor", "qtensor": "a quantized tensor", "meta": "no data"}
        return next((kind for word, kind in kinds.items() if word in tensor.name), tensor.name)
    if isinstance(tensor, Tensor) and (
        tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided
    ):
        return "no data" if tensor.is_meta else f"a {tensor.layout} {tensor.dtype} tensor"
    return "complex" if tensor.dtype.is_complex else ""


def plain_tensors(state: State) -> tuple[dict[str, Tensor], list[str]]:
    """Load tensors: floating point as float32, integers as they are.

    Returns:
        Them by name, and what to tell the user about their precision.

    Raises:
        CheckpointError: the file is damaged where one lies, or one is not finite.
    """
    plain: dict[str, Tensor] = {}
    bad: dict[str, int] = {}
    precisions: Counter[torch.dtype] = Counter()
    for name, stored in state.items():
        tensor = _loaded(name, stored)
        if tensor.is_floating_point():
            precisions[tensor.dtype] += 1
            tensor = tensor.to(torch.float32)
            wrong = int(tensor.numel() - tensor.isfinite().sum())
            if wrong:
                bad[name] = wrong
        plain[name] = tensor.contiguous()
    if bad:
        name, wrong = next(iter(bad.items()))
        kinds = "NaN" if plain[name].isnan().any() else "infinite"
        raise CheckpointError(
            f"{name} has {wrong} {kinds} value{'s' if wrong > 1 else ''} of {plain[name].numel()}"
            + (f" (and {len(bad) - 1} more keys have such values)" if len(bad) > 1 else ""),
            hint="The training diverged, or the file is damaged. Use an earlier checkpoint.",
        )
    other = [str(dtype)[6:] for dtype in precisions if dtype != torch.float32]
    return plain, [f"its weights in {', '.join(other)} were converted to float32"] if other else []


def _loaded(name: str, stored: Any) -> Tensor:
    if not isinstance(stored, StoredTensor):
        return stored.detach()  # type: ignore[no-any-return]
    try:
        return stored.load()
    except Exception as error:
        # Given flipped bits, a reader may stumble over anything.
        raise CheckpointError(
            f"{name} is damaged: {error}",
            hint="Copy or download it again, and compare its size with the original's.",
        ) from error
