"""Check a user's network before anything is done to it: that it runs, on finite numbers, and gives
the same twice. Where it does not, every later comparison would blame something else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waveedge.errors import InputError, out_of_memory
from waveedge.normalise.interface import check_outputs, failure, flat_outputs

__all__ = ["check_network", "is_finite"]

_SAME = 1e-5
"""Two runs may differ by this share of the output's largest value: threads add in any order."""


def check_network(
    model: nn.Module,
    images: Sequence[NDArray[np.float32] | Tensor],
    names: Sequence[str] = (),
) -> list[list[Tensor]]:
    """Run a network as it is on ``images``, the first of them twice.

    Args:
        model: takes (N, C, H, W) and returns a tensor, or lists, tuples and dicts with tensors.
            Neither it nor torch's random numbers are changed.
        images: float32 arrays or tensors (N, C, H, W), at least one.
        names: what messages call the images; their numbers where none are given.

    Returns:
        The output tensors for every image, flattened.

    Raises:
        InputError: the network fails, returns no tensor, gives NaN or infinite values, or gives
            other values in a second run. The layer at fault and the image are named.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = []
        places = list(names) or [f"image {n + 1} of {len(images)}" for n in range(len(images))]
        for image, where in zip(images, places, strict=True):
            x = torch.as_tensor(image)
            outputs.append(_outputs(model, x, where))
            if not is_finite(outputs[-1]):
                raise _notis_finite(model, x, where)
        x = torch.as_tensor(images[0])
        again = _outputs(model, x, places[0])
        if not _same(outputs[0], again):
            raise _random(model, x)
    return outputs


def _outputs(model: nn.Module, x: Tensor, where: str) -> list[Tensor]:
    try:
        # Clones: the input may be written to, and an output may be a buffer that a later run uses.
        tensors = [tensor.clone() for tensor in flat_outputs(model(x.clone()))]
    except Exception as error:
        if out_of_memory(error):
            raise
        raise failure(model, f"{where}, of shape {tuple(x.shape)}", error) from error
    check_outputs(tensors)
    return tensors


def is_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return [tensor.shape for tensor in first] == [tensor.shape for tensor in second] and all(
        a.numel() == 0 or _largest(_numbers(a) - _numbers(b)) <= _SAME * _largest(_numbers(a))
        for a, b in zip(first, second, strict=True)
    )


def _numbers(tensor: Tensor) -> Tensor:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double()


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max())


def _notis_finite(model: nn.Module, x: Tensor, where: str) -> InputError:
    calls = _calls(model, x)
    guilty = next((call for call in calls if call.finite_inputs and not call.finite_outputs), None)
    return InputError(
        f"the network gives NaN or infinite values on {where}, first {_place(guilty)}",
        hint="Look there for a negative running_var, a root or logarithm of a negative number, a "
        "division by zero, or weights that are far too large; or check the image and "
        "--set mean, std and range.",
    )


def _random(model: nn.Module, x: Tensor) -> InputError:
    pairs = zip(_calls(model, x), _calls(model, x), strict=False)
    guilty = next(
        (a for a, b in pairs if a.inputs == b.inputs and a.outputs != b.outputs),
        None,
    )
    return InputError(
        f"two runs of the network on the same image differ, first {_place(guilty)}",
        hint="Look there for dropout that is always on (F.dropout without training=self.training), "
        "for noise, or for state that a run changes; what differs cannot be compared.",
    )


@dataclass(frozen=True)
class _Call:
    """One call of a module: whether its tensors were finite, and digests of them."""

    name: str
    type: str
    finite_inputs: bool
    finite_outputs: bool
    inputs: str
    outputs: str


def _place(call: _Call | None) -> str:
    if call is None:
        return "outside of its layers"
    if not call.name:
        return f"in the forward of the network itself ({call.type}), outside of its layers"
    return f"at the layer {call.name} ({call.type})"


def _calls(model: nn.Module, x: Tensor) -> list[_Call]:
    """Run ``model`` and describe the calls of its modules, in the order in which they ended."""
    calls: list[_Call] = []
    entered: list[tuple[bool, str]] = []

    def enter(_module: nn.Module, positional: Any, named: Any) -> None:
        entered.append(_description((positional, named)))

    with ExitStack() as hooks:
        for name, module in model.named_modules():

            def leave(
                module: nn.Module, _inputs: Any, _named: Any, value: Any, name: str = name
            ) -> None:
                # Described before and after: a module may write to its input.
                (finite_inputs, inputs), (finite, outputs) = entered.pop(), _description(value)
                kind = type(module).__name__
                calls.append(_Call(name, kind, finite_inputs, finite, inputs, outputs))

            before = module.register_forward_pre_hook(enter, with_kwargs=True)
            hooks.callback(before.remove)
            after = module.register_forward_hook(leave, with_kwargs=True)
            hooks.callback(after.remove)
        model(x.clone())
    return calls


def _description(value: Any) -> tuple[bool, str]:
    tensors = flat_outputs(value)
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return is_finite(tensors), digest.hexdigest()
