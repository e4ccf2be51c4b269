"""Transposed convolution as a sub-pixel convolution."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch.nn.functional as F
from torch import fx, nn

from .phases import PhaseToSpace
from .rewrite import Applied, Rewrite, Shapes, macs, new_conv, pair, set_module, source, split

__all__ = ["Transposed"]


class Transposed(Rewrite):
    """A transposed convolution of stride s is a convolution that yields s x s output pixels.

    Output row t of ConvTranspose2d(k, s, p) sums ``w[u] * x[i]`` over ``t + p = s * i + u``. With
    ``t + p = s * j + r`` and ``M = ceil(k / s)`` taps that is an M-tap convolution over x at block
    j for each of the s phases r, padded by M - 1 on both sides; PhaseToSpace interleaves the
    phases and a crop removes the p rows of padding. k=4 s=2 p=1 becomes a 2 x 2 convolution whose
    weights are the 16 taps, no zero among them (a 3 x 3 one aligned with x has 20 zeros).

    Rules:

    1. ConvTranspose2d with equal strides > 1, dilation 1 and no output padding becomes Conv2d,
       PhaseToSpace and, where rows fall outside, a crop. Groups stay groups.
    2. With stride 1 it becomes a Conv2d with the flipped kernel, padding k - 1 - p.

    Output padding is refused (the layer is left as it is): its last rows see no block of their
    own, and no network we know uses it. Where s does not divide k, zeros pad the kernel up to
    ``M * s`` taps (k=6 s=4 multiplies 64 taps for 36); convolutions run so much faster than
    transposed ones on the runtimes we measured that this still pays.
    """

    name = "transposed"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        # Noted first: in a chain, the source of the second layer is a node made here.
        layers = list(self.modules(graph_module, nn.ConvTranspose2d))
        entering = {node: shapes[source(node)][2:] for node, _ in layers}
        for node, layer in layers:
            if not _convertible(node, layer):
                continue
            name, out = str(node.target), shapes[node]
            if layer.stride == (1, 1):
                rule, conv, blocks = 2, _stride_one(layer), out[2:]
            else:
                rule, conv = 1, subpixel_conv(layer)
                blocks = [n + k - 1 for n, k in zip(entering[node], conv.kernel_size, strict=True)]
            set_module(graph_module, name, conv)
            if rule == 1:
                _shuffle_and_crop(graph_module, node, layer, blocks, out[2:])
            after = macs(conv, (out[0], conv.out_channels, *blocks))
            applied.append(Applied(f"transposed.{rule}", name, macs(layer, out), after))
        return applied


def _convertible(node: fx.Node, layer: nn.ConvTranspose2d) -> bool:
    s_h, s_w = pair(layer.stride)
    if s_h != s_w or pair(layer.dilation) != (1, 1) or any(pair(layer.output_padding)):
        return False
    fits = all(p < k for p, k in zip(pair(layer.padding), layer.kernel_size, strict=True))
    return len(node.args) == 1 and (s_h > 1 or fits)


def _shuffle_and_crop(
    graph_module: fx.GraphModule,
    node: fx.Node,
    layer: nn.ConvTranspose2d,
    blocks: Sequence[int],
    size: Sequence[int],
) -> None:
    stride = layer.stride[0]
    module = PhaseToSpace(stride, phase_major=False)
    shuffle = set_module(graph_module, f"{node.target}_shuffle", module)
    with node.graph.inserting_after(node):
        shuffled = node.graph.call_module(shuffle, (node,))
    (top, left), (height, width) = pair(layer.padding), size
    result = shuffled
    if (top, left) != (0, 0) or (height, width) != (blocks[0] * stride, blocks[1] * stride):
        window = (
            slice(None),
            slice(None),
            slice(top, top + height),
            slice(left, left + width),
        )
        with node.graph.inserting_after(shuffled):
            result = node.graph.call_function(operator.getitem, (shuffled, window))
    node.replace_all_uses_with(result)
    shuffled.update_arg(0, node)


def subpixel_conv(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """The convolution that yields all phases of ``layer``, (O, s, s) channels as PixelShuffle's."""
    stride, groups = layer.stride[0], layer.groups
    t_h, t_w = (math.ceil(k / stride) for k in layer.kernel_size)
    k_h, k_w = layer.kernel_size
    weight = layer.weight.detach()  # (I, O/groups, k, k)
    weight = F.pad(weight, (0, t_w * stride - k_w, 0, t_h * stride - k_h))
    weight = split(split(split(weight, t_w, 3), t_h, 2), groups, 0)
    # (groups, I/g, O/g, tap, r, tap, r) -> (groups, O/g, r, r, I/g, tap, tap); taps are reversed
    # because a convolution correlates
    weight = weight.permute(0, 2, 4, 6, 1, 3, 5).flip(5, 6).flatten(0, 3)
    bias = None if layer.bias is None else layer.bias.repeat_interleave(stride * stride)
    return new_conv(weight, bias, layer, groups=groups, padding=(t_h - 1, t_w - 1))


def _stride_one(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    weight = split(layer.weight.detach(), layer.groups).transpose(1, 2).flatten(0, 1).flip(2, 3)
    padding = tuple(k - 1 - p for k, p in zip(layer.kernel_size, pair(layer.padding), strict=True))
    return new_conv(weight, layer.bias, layer, groups=layer.groups, padding=padding)
