"""Polyphase form: pixels at even and odd rows and columns as channels of a smaller map."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from .emit import Builder
from .rewrite import Applied, Rewrite, Shapes, called, drop, macs, new_conv, set_module, source

__all__ = ["Lower", "SpaceToPhase"]


class SpaceToPhase(nn.Module):
    """(N, C, 2h, 2w) to (N, 4C, h, w), phase by phase: (even, even) rows and columns first.

    PixelUnshuffle with the other order of channels, in which one phase is a plain slice.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :, r::2, c::2] for r in (0, 1) for c in (0, 1)], 1)


class Lower(Rewrite):
    """Turn what is left of SpaceToPhase into plain operations.

    Rules:

    1. Where only 1x1 convolutions read the phases, each becomes a 2x2 convolution of stride 2 on
       the map itself: as many multiply-adds, and nothing is moved.
    2. Elsewhere the phases are four strided slices and their concatenation, which runtimes do
       faster than SpaceToDepth, in int8 as well.
    """

    name = "lower"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node, _ in self.modules(graph_module, SpaceToPhase):
            readers = [called(user, graph_module) for user in node.users]
            if all(
                isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and self.free(user)
                for user, layer in zip(node.users, readers, strict=True)
            ):
                for user, layer in zip(list(node.users), readers, strict=True):
                    assert isinstance(layer, nn.Conv2d)
                    set_module(graph_module, str(user.target), _as_strided(layer))
                    cost = macs(layer, shapes[user])
                    applied.append(Applied("lower.1", str(user.target), cost, cost))
                drop(node, source(node))
            else:
                build = Builder(graph_module, node)
                height, width = shapes[source(node)][2:]
                parts = [
                    build.window(source(node), None, (r, height, height), (c, width, width), step=2)
                    for r in (0, 1)
                    for c in (0, 1)
                ]
                drop(node, build.join(parts))
                applied.append(Applied("lower.2", str(node.target), 0, 0))
        return applied


def _as_strided(conv: nn.Conv2d) -> nn.Conv2d:
    """A 1x1 convolution of phases as a 2x2 convolution of stride 2 of the map they come from."""
    weight = conv.weight.detach()[:, :, 0, 0]
    weight = weight.reshape(len(weight), 2, 2, -1).permute(0, 3, 1, 2)
    return new_conv(weight, conv.bias, conv, stride=2)
