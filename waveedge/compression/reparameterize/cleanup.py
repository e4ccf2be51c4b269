"""Remove layers that do nothing once a network is trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .rewrite import Applied, Rewrite, Shapes, called, drop, set_module, source

__all__ = ["Cleanup", "GlobalMean"]

_MODULES = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, torch.dropout)
_METHODS = ("contiguous", "clone", "detach")


class GlobalMean(nn.AdaptiveAvgPool2d):
    """The mean over a map, (N, C, H, W) to (N, C, 1, 1).

    torch exports its own pooling of a map with channels last as a gather by strides, which no
    runtime computes in integers and which fixes the batch.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, input: Tensor) -> Tensor:
        return input.mean((2, 3), keepdim=True)


class Cleanup(Rewrite):
    """Rules:

    1. A dropout layer or ``nn.Identity`` is removed: in eval mode each returns its input.
    2. A call of a dropout function with ``training`` false is removed.
    3. ``contiguous``, ``clone`` and ``detach`` are removed: they change no value.
    4. An AdaptiveAvgPool2d to one pixel becomes a GlobalMean.
    """

    name = "cleanup"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node, pool in self.modules(graph_module, nn.AdaptiveAvgPool2d):
            if pool.output_size in (1, (1, 1)):
                set_module(graph_module, str(node.target), GlobalMean())
        for node in list(graph_module.graph.nodes):
            if isinstance(called(node, graph_module), _MODULES):
                rule = 1
            elif node.op == "call_function" and node.target in _FUNCTIONS and _inactive(node):
                rule = 2
            elif node.op == "call_method" and node.target in _METHODS:
                rule = 3
            else:
                continue
            applied.append(Applied(f"cleanup.{rule}", str(node.target), 0, 0))
            drop(node, source(node))
        return applied


def _inactive(node: fx.Node) -> bool:
    position = 2  # dropout(input, p, training)
    training = node.kwargs.get("training", node.kwargs.get("train"))
    if training is None:
        training = node.args[position] if len(node.args) > position else True
    return training is False
