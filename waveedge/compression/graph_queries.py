"""What the nodes of a traced network mean to quantization: compute, pass-through, or float."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import fx, nn

__all__ = [
    "concatenated_along",
    "has_weights",
    "is_addition",
    "is_clamp",
    "is_join",
    "is_pass_through",
    "is_pointwise",
    "is_zero_padding",
    "layer_of",
    "layers",
    "sliced",
]

# Operations of torch that only move or pick values: their output lies on the grid of their input.
# Export asks the same of ONNX operators (export/fake_quantize.py), which are others by name and
# number; tests/export/test_moving_operations.py has both agree. What ``reparameterize/mixing.py``
# and ``equalize.py`` list is more: what is linear, and what lets a positive factor through.
_MOVING_MODULES = (
    nn.Identity,
    nn.Dropout,
    nn.Flatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.MaxPool2d,
)
_MOVING_FUNCTIONS = {
    F.pixel_shuffle,
    F.pixel_unshuffle,
    F.max_pool2d,
    torch.flatten,
    torch.reshape,
    torch.permute,
    operator.getitem,
}
_MOVING_METHODS = {
    "contiguous",
    "flatten",
    "permute",
    "reshape",
    "transpose",
    "unflatten",
    "view",
}
# Activations that runtimes fuse into the convolution before them.
_CLAMP_MODULES = (nn.ReLU, nn.ReLU6)
_CLAMP_FUNCTIONS = {F.relu, F.relu6, torch.relu}
# Operations that join or average values and that runtimes execute on integers when their inputs
# and outputs are quantized.
_JOIN_MODULES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_JOIN_FUNCTIONS = {operator.add, torch.add, torch.cat, torch.concat, F.avg_pool2d}
_JOIN_METHODS = {"add"}


def layer_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a ``call_module`` node runs, else None."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def has_weights(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a convolution, transposed or not, or a linear layer."""
    return isinstance(layer_of(graph, node), nn.Conv2d | nn.ConvTranspose2d | nn.Linear)


def is_pointwise(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a 1x1 convolution of stride 1 in which all outputs read all inputs."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride == (1, 1)
        and module.padding == (0, 0)
        and module.groups == 1
    )


def layers(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    """Yield (node, module) for every module call, in execution order."""
    for node in graph.graph.nodes:
        module = layer_of(graph, node)
        if module is not None:
            yield node, module


def is_pass_through(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node only moves values (reshape, pixel shuffle, max pool)."""
    module = layer_of(graph, node)
    return (
        isinstance(module, _MOVING_MODULES)
        or (node.op == "call_function" and node.target in _MOVING_FUNCTIONS)
        or (node.op == "call_method" and node.target in _MOVING_METHODS)
    )


def is_zero_padding(node: fx.Node) -> bool:
    """Whether a node pads with zeros, which lie on every grid."""
    return node.target is F.pad and len(node.args) == 2 and not node.kwargs


def is_clamp(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a ReLU or ReLU6."""
    return (
        isinstance(layer_of(graph, node), _CLAMP_MODULES)
        or (node.op == "call_function" and node.target in _CLAMP_FUNCTIONS)
        or (node.op == "call_method" and node.target == "relu")
    )


def is_join(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node adds, concatenates or averages."""
    return (
        isinstance(layer_of(graph, node), _JOIN_MODULES)
        or (node.op == "call_function" and node.target in _JOIN_FUNCTIONS)
        or (node.op == "call_method" and node.target in _JOIN_METHODS)
    )


def concatenated_along(node: fx.Node) -> int | None:
    """The dimension along which a node concatenates; None for any other node."""
    if node.op != "call_function" or node.target not in (torch.cat, torch.concat):
        return None
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return dim if isinstance(dim, int) else None


def is_addition(node: fx.Node) -> bool:
    """Whether a node adds two values."""
    return node.op == "call_function" and node.target in (operator.add, torch.add)


def sliced(node: fx.Node) -> tuple[slice, slice] | None:
    """The rows and the columns that a slice takes of a map; None where it takes anything else.

    What another value says (``x[..., : y.shape[2]]``) is another at other sizes: None, too.
    """
    if node.target is not operator.getitem or len(node.all_input_nodes) != 1:
        return None
    slices = node.args[1]
    if not isinstance(slices, tuple) or len(slices) != 4:
        return None
    if not all(isinstance(item, slice) and item.step in (None, 1) for item in slices):
        return None
    images, channels, rows, columns = slices
    assert isinstance(rows, slice)
    assert isinstance(columns, slice)
    return (rows, columns) if images == channels == slice(None) else None
