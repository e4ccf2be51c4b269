"""Layers that stay whole: waveedge's own, which rewrites know by name, and recurrent ones.

While a network is exported, each stands behind one custom operator, so that the exporter sees one
call where it would see the reshapes and slices of a wavelet transform, or the state that a
recurrent layer makes for the batch at hand.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch.func import functional_call
from torch.utils import _pytree as pytree

__all__ = ["Call", "kept_whole"]

_PACKAGES = ("waveedge.nn.", "waveedge.compression.")
_RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


@dataclass
class Call:
    """One call of a layer that stays whole.

    Attributes:
        name: qualified name of the layer.
        layer: the layer itself.
        leaves: its arguments, flattened; the class ``Tensor`` stands for each tensor.
        inputs: how the arguments are nested.
        outputs: how the results are nested; known once the operator has run.
    """

    name: str
    layer: nn.Module
    leaves: tuple[Any, ...]
    inputs: pytree.TreeSpec
    outputs: pytree.TreeSpec | None = None

    def arguments(self, tensors: list[Any]) -> tuple[Any, ...]:
        """The arguments of the call, with these in the place of its tensors."""
        rest = iter(tensors)
        leaves = [next(rest) if leaf is Tensor else leaf for leaf in self.leaves]
        found: tuple[Any, ...] = pytree.tree_unflatten(leaves, self.inputs)
        return found


_calls: list[Call] = []
"""Calls of the export that is running, by the number that the operator carries."""


@torch.library.custom_op("waveedge::whole", mutates_args=())
def _whole(tensors: list[Tensor], call: int) -> list[Tensor]:
    """Stands for call number ``call`` while a network is exported; never run."""
    raise NotImplementedError


@_whole.register_fake
def _(tensors: list[Tensor], call: int) -> list[Tensor]:
    made = _calls[call]
    mode = detect_fake_mode(tensors)
    assert mode is not None
    named = [*made.layer.named_parameters(), *made.layer.named_buffers()]
    state: dict[str, Tensor] = {
        name: mode.from_tensor(tensor, static_shapes=True) for name, tensor in named
    }
    results = functional_call(made.layer, state, made.arguments(tensors))
    leaves, made.outputs = pytree.tree_flatten(results)
    return [leaf.clone() for leaf in leaves]


@contextmanager
def kept_whole(model: nn.Module) -> Iterator[list[Call]]:
    """Let the layers of ``model`` that stay whole be exported as one call each; it is changed.

    Yields:
        the calls, by the number that the operator ``waveedge::whole`` carries.
    """
    _calls.clear()
    for name, module in _outermost(model):
        _put_behind_operator(name, module)
    try:
        yield _calls
    finally:
        _calls.clear()


def _outermost(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The outermost layers that stay whole, each once."""
    seen = set[nn.Module]()
    stack = [("", model)]
    while stack:
        name, module = stack.pop()
        if module in seen:
            continue
        seen.add(module)
        if _is_whole(module):
            yield name, module
        else:
            prefix = f"{name}." if name else ""
            stack += [(f"{prefix}{child}", inner) for child, inner in module.named_children()]


def _is_whole(module: nn.Module) -> bool:
    return type(module) in _RECURRENT or f"{type(module).__module__}.".startswith(_PACKAGES)


def _put_behind_operator(name: str, module: nn.Module) -> None:
    # Exporting replaces the parameters of the one in the network.
    layer = copy.deepcopy(module)

    def forward(*arguments: Any) -> Any:
        leaves, inputs = pytree.tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        kinds = tuple(Tensor if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        call = Call(name, layer, kinds, inputs)
        _calls.append(call)
        results = torch.ops.waveedge.whole(tensors, len(_calls) - 1)
        assert call.outputs is not None
        return pytree.tree_unflatten(results, call.outputs)

    module.forward = forward
