"""Channels of very different range brought nearer to each other, by an exact rewrite.

All channels of a value share one grid, so one channel a thousand times larger than the others
leaves them a few grid points; and the layer that reads it has tiny weights for that channel, which
round to zero on the grid of their row. Cross-layer equalization (Nagel et al., "Data-free
quantization through weight equalization and bias correction", arXiv 1906.04721) divides a channel
by a factor where it is written and multiplies the weights that read it by the same factor.

1. The values between layers that must be scaled alike are a stream: the outputs of some layers, and
   what operations with ``f(s x) = s f(x)`` for every channel and every ``s > 0`` make of them
   (ReLU, LeakyReLU, PReLU, pooling, padding, upsampling, sums, products with a number). Everything
   that reads it must be such an operation or a layer.
2. The factor of a channel balances its range and that of the weights that read it, as in the paper.
   Factors are powers of two, so that not a bit of the float network's output changes.
3. A stream is equalized where this divides the expected rounding error of a layer that reads it
   by 4 (6 dB) or more, and increases that of none.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.reparameterize import Judge, Shapes, judged, scale_outputs

__all__ = ["GAIN", "Channels", "by_input", "equalize", "equalized", "observe", "reading_error"]

_Layer: TypeAlias = nn.Conv2d | nn.ConvTranspose2d | nn.Linear

GAIN = 4.0
"""How much smaller the squared error of a reader must become."""
_QUIET = 1 / 16
"""Of the median range: a channel that is quieter here may speak up on other images."""

aten = torch.ops.aten
_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.Dropout)
_ON_MAPS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_RESIZING = {
    aten.upsample_nearest2d.vec,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bicubic2d.vec,
}


class _Stream(NamedTuple):
    """Values whose channels lie along ``axis``, and the layers that write and read them."""

    axis: int
    values: list[fx.Node]
    writers: list[fx.Node]
    readers: list[fx.Node]


class Channels(NamedTuple):
    """Largest magnitude and mean square of every channel of a value, (channels,) float64."""

    peak: Tensor
    power: Tensor


def equalized(
    graph: fx.GraphModule,
    shape: tuple[int, ...],
    images: Sequence[NDArray[np.float32]],
    judge: Judge,
) -> fx.GraphModule:
    """``graph`` with its streams equalized, if it then computes the same; else as it is."""

    def change(form: fx.GraphModule) -> list[str]:
        return equalize(form, Shapes(form, shape), images)

    return judged("equalize", graph, change, judge)


@torch.no_grad()
def equalize(
    graph: fx.GraphModule, shapes: Shapes, images: Sequence[NDArray[np.float32]]
) -> list[str]:
    """Equalize the streams of a network in place; see the module's head.

    Args:
        graph: the network in floating point.
        shapes: the shapes of its values.
        images: (1, C, H, W) float32, to see the ranges of its channels on.

    Returns:
        the names of the layers whose output channels were scaled.
    """
    streams = _streams(graph, shapes)
    axes = {value: stream.axis for stream in streams for value in stream.values}
    seen = observe(graph, axes, images)
    scaled = []
    for stream in streams:
        layers: list[_Layer] = [layer_of(graph, node) for node in stream.readers]  # type: ignore[misc]
        channels = [seen[node.all_input_nodes[0]] for node in stream.readers]
        peak = torch.stack([seen[value].peak for value in stream.values]).amax(0)
        factors = _factors(peak, layers)
        gains = [
            reading_error(layer, found) / max(reading_error(layer, found, factors), 1e-300)
            for layer, found in zip(layers, channels, strict=True)
        ]
        if not (max(gains) >= GAIN and min(gains) >= 1):
            continue
        for node in stream.writers:
            scale_outputs(layer_of(graph, node), factors)  # type: ignore[arg-type]
        for layer in layers:
            layer.weight.copy_(by_input(layer, 1 / factors))
        scaled += [str(node.target) for node in stream.writers]
    return scaled


def _streams(graph: fx.GraphModule, shapes: Shapes) -> list[_Stream]:
    found: list[_Stream] = []
    for node in graph.graph.nodes:
        written = any(node in stream.writers for stream in found)
        if _axis(graph, node) is not None and not written:
            stream = _stream(graph, node, shapes)
            if stream is not None:
                found.append(stream)
    return found


def _stream(graph: fx.GraphModule, start: fx.Node, shapes: Shapes) -> _Stream | None:
    """The stream that a layer writes; None where something else reads or writes it."""
    axis = _axis(graph, start)
    values: dict[fx.Node, None] = {}
    writers: dict[fx.Node, None] = {}
    readers: dict[fx.Node, None] = {}
    waiting = [start]
    while waiting:
        value = waiting.pop()
        if value in values:
            continue
        values[value] = None
        if _axis(graph, value) is not None:
            writers[value] = None
        elif _is_homogeneous(graph, value, shapes, axis):
            waiting += value.all_input_nodes[: 2 if value.target in _SUMS else 1]
        else:
            return None
        for user in value.users:
            if _axis(graph, user) is not None:
                readers[user] = None
            elif _is_homogeneous(graph, user, shapes, axis):
                waiting.append(user)
            elif not isinstance(shapes.get(user), int):  # which asks for the size alone
                return None
    if not readers or {_axis(graph, node) for node in (*writers, *readers)} != {axis}:
        return None
    assert axis is not None
    return _Stream(axis, list(values), list(writers), list(readers))


_SUMS = {operator.add, operator.sub, torch.add, torch.sub}


def _axis(graph: fx.GraphModule, node: fx.Node) -> int | None:
    """Where a layer with weights, called once, has its channels; None for other nodes."""
    layer = layer_of(graph, node)
    if not isinstance(layer, _Layer):
        return None
    if sum(other.target == node.target for other in graph.graph.nodes) > 1:
        return None
    return -1 if isinstance(layer, nn.Linear) else 1


def _is_homogeneous(graph: fx.GraphModule, node: fx.Node, shapes: Shapes, axis: int | None) -> bool:
    """Whether ``f(s x) = s f(x)`` for factors s > 0 of the channels along ``axis``."""
    layer, target = layer_of(graph, node), node.target
    if layer is not None:
        return isinstance(layer, _ELEMENTWISE) or (axis == 1 and isinstance(layer, _ON_MAPS))
    if node.op != "call_function":
        return False
    if target in _SUMS or target in (operator.mul, torch.mul, operator.truediv, torch.div):
        if node.kwargs or len(node.args) != 2 or not isinstance(node.args[0], fx.Node):
            return False
        other = node.args[1]
        if target in _SUMS:
            return isinstance(other, fx.Node) and shapes[other] == shapes[node.args[0]]
        return isinstance(other, int | float)
    if target is F.pad and axis == 1:
        sides: Any = node.args[1]
        constant = len(node.args) > 3 and bool(node.args[3])
        return len(sides) <= 4 and not constant and not node.kwargs
    return target in _RESIZING and axis == 1


def observe(
    graph: fx.GraphModule, axes: Mapping[fx.Node, int], images: Sequence[NDArray[np.float32]]
) -> dict[fx.Node, Channels]:
    """What the channels of some values are like on images; ``axes`` says along which they lie."""
    seen: dict[fx.Node, Channels] = {}

    class Observer(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n in axes:
                rows = result.movedim(axes[n], 0).flatten(1).double()
                peak, power = rows.abs().amax(1), rows.square().mean(1) / len(images)
                before = seen.get(n, Channels(torch.zeros_like(peak), torch.zeros_like(power)))
                seen[n] = Channels(torch.maximum(before.peak, peak), before.power + power)
            return result

    if axes:
        like = next(graph.parameters())
        for image in images:
            Observer(graph).run(torch.from_numpy(image).to(like))
    return seen


def _factors(peak: Tensor, layers: Sequence[_Layer]) -> Tensor:
    """Powers of two that balance the range of each channel and of the weights that read it."""
    weights = torch.stack([rows / rows.max() for rows in map(_largest_weights, layers)]).amax(0)
    peak = peak.clamp(min=float(peak.median()) * _QUIET).clamp(min=1e-30)
    balance = (weights.clamp(min=1e-6) / peak).sqrt()
    return torch.exp2(torch.round(torch.log2(balance / balance.median())))


def _largest_weights(layer: _Layer) -> Tensor:
    """The largest magnitude among the weights that read each input channel."""
    matrix = _matrix(layer, layer.weight)
    largest: Tensor = matrix.abs().amax(dim=(1, 3)).flatten().clamp(min=1e-30)
    return largest


def reading_error(layer: _Layer, read: Channels, factors: Tensor | None = None) -> float:
    """Expected squared error of 8-bit inputs and weights at a layer's outputs, up to a constant.

    A step is a constant part of the largest input, and of the largest weight of a row.
    """
    if factors is None:
        factors = torch.ones_like(read.peak)
    matrix = _matrix(layer, by_input(layer, 1 / factors))
    groups, _, _, taps = matrix.shape
    inputs = (read.peak * factors).max().square() * matrix.square().sum()
    power = (read.power * factors.square()).reshape(groups, -1).sum(1) * taps
    weights = (matrix.abs().amax(dim=(2, 3)).square().sum(1) * power).sum()
    return float(inputs + weights)


def by_input(layer: _Layer, factors: Tensor) -> Tensor:
    """The weight of a layer, float64, times a factor for every channel of its input."""
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.ConvTranspose2d):  # (I, O/groups, k, k)
        return weight * factors.reshape(-1, 1, 1, 1)
    if isinstance(layer, nn.Linear):
        return weight * factors
    grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])  # (groups, O/groups, ...)
    return (grouped * factors.reshape(layer.groups, 1, -1, 1, 1)).flatten(0, 1)


def _matrix(layer: _Layer, weight: Tensor) -> Tensor:
    """A weight as (groups, outputs of a group, inputs of a group, taps), float64."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    first, second = weight.shape[:2]
    grouped = weight.detach().double().reshape(groups, first // groups, second, -1)
    return grouped.transpose(1, 2) if isinstance(layer, nn.ConvTranspose2d) else grouped
