"""Two layers with weights and what stands between them: where channels can be saved."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.reparameterize import SpaceToPhase, calls, only_user

__all__ = ["Layer", "Pair", "by_input", "dense_layer", "find_pairs", "set_weight"]

Layer: TypeAlias = nn.Conv2d | nn.ConvTranspose2d | nn.Linear

_LINEAR = (nn.Identity, nn.Dropout, SpaceToPhase)
_ELEMENTWISE = (
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
)
_POOLING = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
_FUNCTIONS = {F.gelu, F.hardswish, F.leaky_relu, F.relu, F.relu6, F.silu, torch.relu, torch.sigmoid}


class Pair(NamedTuple):
    """A layer, and the one layer that reads what it writes.

    Attributes:
        writer, reader: the nodes that call them.
        between: the nodes from the one to the other, each with one reader.
        columns: (channels of the writer, n) the input channels of the reader that each becomes.
        linear: whether nothing between them is more than a rearrangement.
    """

    writer: fx.Node
    reader: fx.Node
    between: tuple[fx.Node, ...]
    columns: Tensor
    linear: bool

    @property
    def layers(self) -> tuple[fx.Node, fx.Node]:
        """Both."""
        return self.writer, self.reader

    @property
    def read(self) -> fx.Node:
        """The value that the reader reads."""
        return self.between[-1] if self.between else self.writer


def find_pairs(graph: fx.GraphModule, keep: Collection[str] = ()) -> Iterator[Pair]:
    """The pairs of a network, in the order of their writers.

    Args:
        graph: the network in floating point.
        keep: names of layers that must stay as they are.
    """
    for node in graph.graph.nodes:
        writer = dense_layer(graph, node, keep)
        if writer is None:
            continue
        on_maps = not isinstance(writer, nn.Linear)
        columns = torch.arange(_outputs(writer)).unsqueeze(1)
        between: list[fx.Node] = []
        linear = True
        current = only_user(node)
        while current is not None:
            if (reader := dense_layer(graph, current, keep)) is not None:
                if isinstance(reader, nn.Linear) != on_maps and current.args[0] in (node, *between):
                    yield Pair(node, current, tuple(between), columns, linear)
                break
            module = layer_of(graph, current)
            if isinstance(module, SpaceToPhase):
                channels = columns.numel()  # phases come one after another, all channels in each
                columns = torch.cat([columns + phase * channels for phase in range(4)], 1)
            elif isinstance(module, _LINEAR):
                pass
            elif _is_elementwise(graph, current, module, on_maps=on_maps):
                linear = False
            else:
                break
            between.append(current)
            current = only_user(current)


def by_input(layer: Layer) -> Tensor:
    """A layer's weight as (inputs, outputs, taps), float64."""
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.ConvTranspose2d):
        return weight.flatten(2)
    return weight.transpose(0, 1).reshape(weight.shape[1], weight.shape[0], -1)


def set_weight(layer: Layer, weight: Tensor, bias: Tensor | None) -> None:
    """Give a layer a weight in the order of :func:`by_input`, of any number of channels."""
    inputs, outputs, _ = weight.shape
    if isinstance(layer, nn.ConvTranspose2d):
        shaped = weight.reshape(inputs, outputs, *layer.kernel_size)
    elif isinstance(layer, nn.Conv2d):
        shaped = weight.transpose(0, 1).reshape(outputs, inputs, *layer.kernel_size)
    else:
        shaped = weight[..., 0].T
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(shaped.to(dtype).contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
    else:
        layer.in_channels, layer.out_channels = inputs, outputs


def _outputs(layer: Layer) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def dense_layer(graph: fx.GraphModule, node: fx.Node, keep: Collection[str]) -> Layer | None:
    """The layer that a node calls, if every output of it reads every input."""
    layer = layer_of(graph, node)
    if type(layer) not in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
        return None
    assert isinstance(layer, Layer)
    if getattr(layer, "groups", 1) != 1 or getattr(layer, "padding_mode", "zeros") != "zeros":
        return None
    alone = len(calls(graph.graph, str(node.target))) == 1
    return layer if node.target not in keep and alone else None


def _is_elementwise(
    graph: fx.GraphModule, node: fx.Node, module: nn.Module | None, *, on_maps: bool
) -> bool:
    """Whether a node does the same to every channel, and to each alone."""
    if len(node.all_input_nodes) != 1:
        return False
    if module is not None:
        return isinstance(module, _ELEMENTWISE) or (on_maps and isinstance(module, _POOLING))
    return node.op == "call_function" and node.target in _FUNCTIONS
