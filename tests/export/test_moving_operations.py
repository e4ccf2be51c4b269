"""What compression takes to only move values leaves them on their grid in the ONNX graph, too."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.compression.graph_queries import is_pass_through, layer_of
from waveedge.export.fake_quantize import activation_grid
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.nn import ActivationQuantizer


class Moves(nn.Module):
    """A value on a grid, moved in all the ways there are; ``last`` only changes it."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.grid = ActivationQuantizer(8)
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.pool, self.drop, self.same = nn.MaxPool2d(2), nn.Dropout(), nn.Identity()
        self.flatten, self.last = nn.Flatten(2), last

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.pool(self.shuffle(self.unshuffle(self.grid(x)))))
        x = F.pixel_shuffle(F.pixel_unshuffle(F.max_pool2d(x, 2), 2), 2)
        x = torch.permute(x, (0, 2, 3, 1)).permute(0, 3, 1, 2).transpose(2, 3)
        x = torch.reshape(self.flatten(x[:, :, 1:, :2].contiguous()), (-1, 3, 2, 3))
        x = torch.flatten(self.same(x), 2).unflatten(2, (2, 3)).reshape(-1, 6, 3).view(-1, 3, 6)
        y: Tensor = self.last(x.flatten(1))
        return y


class Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


@pytest.mark.parametrize(("last", "moves"), [(nn.Identity(), True), (nn.Tanh(), False)])
def test_both_tables_agree(last: nn.Module, moves: bool) -> None:
    model = Moves(last).eval()
    graph = fx.GraphModule(model, Tracer().trace(model))
    between = [
        node
        for node in graph.graph.nodes
        if node.op.startswith("call") and not isinstance(layer_of(graph, node), ActivationQuantizer)
    ]
    assert all(is_pass_through(graph, node) for node in between) == moves
    assert (activation_grid(to_onnx(model, (3, 16, 16)).graph.outputs[0]) is not None) == moves
