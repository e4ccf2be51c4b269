"""What lies between a wavelet transform and a convolution, as a matrix, found by running it.

Code picks bands apart, turns signs, joins them in an order of its own: however it is written, at
every position it only mixes channels. So the nodes are run on a map whose images in the batch each
fill one channel, and the matrix is read off what comes out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["matrix_of", "one_channel_each", "spread"]

aten = torch.ops.aten

_MIXING: frozenset[Callable[..., Any]] = frozenset(
    {
        *(operator.neg, operator.getitem, torch.cat, torch.flatten, torch.unflatten, torch.reshape),
        *(torch.permute, torch.transpose, torch.unsqueeze, torch.split),
        *(aten.neg.default, aten.stack.default, aten.squeeze.dim, aten.unbind.int),
        *(aten.chunk.default, aten.mul.Scalar, aten.div.Scalar),
    }
)
"""Functions that are linear in the tensors that they take."""
# Of a size of their own, and two values, so that an exchange of axes or positions shows.
_POSITIONS = torch.tensor([[1.0, 3.0]], dtype=torch.float64)


def one_channel_each(channels: int) -> Tensor:
    """A map (channels, channels, 1, 2) in float64; image n of the batch fills channel n alone."""
    return torch.eye(channels, dtype=torch.float64)[:, :, None, None] * _POSITIONS


def matrix_of(value: Tensor) -> Tensor | None:
    """The (outputs, inputs) matrix that made ``value`` of :func:`one_channel_each`.

    None where it is no mixture of channels, the same at every position.
    """
    if value.dim() != 4:
        return None
    mixed = value[:, :, :1, :1]
    alike = torch.allclose(value, mixed * _POSITIONS, rtol=1e-9, atol=0)
    return mixed[:, :, 0, 0].T if alike else None


@torch.no_grad()
def spread(graph: fx.Graph, values: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    """``values``, and those of all nodes that are computed from them alone by mixing channels."""
    found = dict(values)
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if node in found or not inputs or not all(value in found for value in inputs):
            continue
        if not _mixes(node):
            continue
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), found.__getitem__)
        try:
            found[node] = node.target(*args, **kwargs)
        except (RuntimeError, IndexError):  # a size is written into it
            continue
    return found


def _mixes(node: fx.Node) -> bool:
    """Whether what a node yields is linear in what it takes."""
    if node.op != "call_function":
        return False
    tensors = [argument for argument in node.args if isinstance(argument, fx.Node)]
    if node.target in (operator.add, operator.sub):
        return len(tensors) == 2
    if node.target is operator.mul:
        return len(tensors) == 1
    if node.target is operator.truediv:
        return len(tensors) == 1 and tensors[0] is node.args[0]
    return node.target in _MIXING
