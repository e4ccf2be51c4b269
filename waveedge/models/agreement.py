"""Whether two layers compute the same, tried on data."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from waveedge.errors import ExportError

__all__ = ["check_agreement", "noise", "tensors_of"]

# Largest distance, relative to the norm of the output. Single precision is for code that makes
# float32 tensors of its own and so cannot compute in double precision, or returns one.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5}


def check_agreement(reference: nn.Module, layer: nn.Module, inputs: Sequence[Any]) -> None:
    """Check that ``layer`` computes what ``reference`` does, both in eval mode.

    Args:
        reference: the layer that is right; its code may be anything.
        layer: what should equal it. Copies of both are compared, on the CPU.
        inputs: arguments, each a tensor or nested tuples and lists of tensors.

    Raises:
        ExportError: an output differs in shape or value, or ``reference`` does not run.
    """
    failure = ""
    for dtype, tolerance in _TOLERANCES.items():
        try:
            pair = [copy.deepcopy(part).cpu().to(dtype).eval() for part in (reference, layer)]
            with torch.no_grad(), _default(dtype):
                outputs = [[part(_cast(x, dtype)) for part in pair] for x in inputs]
                _check_dtype(outputs, dtype)
                distances = [distance for both in outputs for distance in _distances(*both)]
        # Code of unknown origin runs here, on data that is not its own: it may raise anything.
        except Exception as error:
            failure = f"{type(error).__name__}: {error}".partition("\n")[0]
            continue
        wrong = [distance for distance in distances if not distance <= tolerance]
        if wrong:
            raise ExportError(
                f"a {type(layer).__name__} would compute something else: "
                f"{wrong[0]:.1e} of the output"
            )
        return
    raise ExportError(f"it does not run on random data ({failure})")


def noise(*shape: int) -> Tensor:
    """Normal numbers, the same for every call of one shape, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_of(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_of(item)


def _check_dtype(outputs: Sequence[Any], dtype: torch.dtype) -> None:
    others = {tensor.dtype for tensor in tensors_of(outputs)} - {dtype}
    if others:
        raise TypeError(f"it yields {others.pop()} for {dtype}")


def _distances(expected: Any, actual: Any) -> Iterator[float]:
    for one, other in zip(tensors_of(expected), tensors_of(actual), strict=True):
        if one.shape != other.shape:
            yield float("inf")
        else:
            # A tensor of zeros has to be met exactly.
            yield float((one - other).norm() / one.norm().clamp(min=1e-30))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype)
    return type(value)(_cast(item, dtype) for item in value)


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that a forward makes without naming a type have ``dtype`` meanwhile."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
