"""Transposed convolution as a sub-pixel convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import fx, nn

from waveedge.macs import layer_macs
from waveedge.normalise.modules import set_module

from .block_layout import plan
from .graph_builder import Builder
from .linear_steps import step_of
from .rewrite import Applied, Rewrite, Shapes, new_conv, pair, prune, source, split
from .spans import Span

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
       PhaseToSpace and, where pixels fall outside, a crop.
    2. With groups, the phases of one group must stay together: a PixelShuffle takes the place of
       PhaseToSpace.
    3. With stride 1 it becomes a Conv2d with the flipped kernel, padding k - 1 - p.

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
        entering = {node: shapes[source(node)] for node, _ in layers}
        for node, layer in layers:
            if not _convertible(node, layer):
                continue
            name, size = str(node.target), entering[node][2:]
            before = after = layer_macs(layer, shapes[node])
            if pair(layer.stride) == (1, 1):
                rule = 3
                set_module(graph_module, name, _stride_one(layer))
            elif layer.groups > 1:
                rule = 2
                after = _shuffled(graph_module, node, layer, size, shapes[node][2:])
            else:
                rule = 1
                step = step_of(layer)
                layout = None if step is None else plan([step], size)
                if step is None or layout is None:
                    continue
                build = Builder(graph_module, node)
                blocks = build.blocks(name, [(source(node), [step])], layout)
                node.replace_all_uses_with(build.image(name, blocks, layout))
                prune(node)
                after = layout.macs(layer.in_channels, layer.out_channels)
            applied.append(Applied(f"transposed.{rule}", name, before, after))
        return applied


def _convertible(node: fx.Node, layer: nn.ConvTranspose2d) -> bool:
    s_h, s_w = pair(layer.stride)
    if s_h != s_w or pair(layer.dilation) != (1, 1) or any(pair(layer.output_padding)):
        return False
    fits = all(p < k for p, k in zip(pair(layer.padding), layer.kernel_size, strict=True))
    return len(node.args) == 1 and (s_h > 1 or fits)


def _shuffled(
    graph_module: fx.GraphModule,
    node: fx.Node,
    layer: nn.ConvTranspose2d,
    size: Sequence[int],
    out: Sequence[int],
) -> int:
    """Rule 2; returns the multiply-adds."""
    name, stride = str(node.target), layer.stride[0]
    conv = _grouped(layer)
    build = Builder(graph_module, node)
    blocks = build.module(name, conv, source(node))
    shuffled = build.module(f"{name}_shuffle", nn.PixelShuffle(stride), blocks)
    counts = [n + k - 1 for n, k in zip(size, conv.kernel_size, strict=True)]
    windows = [
        Span(p, p + n, count * stride)
        for p, n, count in zip(pair(layer.padding), out, counts, strict=True)
    ]
    node.replace_all_uses_with(build.window(shuffled, None, *windows))
    prune(node)
    return layer_macs(conv, (conv.out_channels, *counts))


def _grouped(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """The convolution that yields all phases of ``layer`` as (O, s, s) channels."""
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
