"""A strided convolution that reads pixels as channels computes the same integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from waveedge.compression.reparameterize import reparameterize
from waveedge.export.layers import optimised_by_onnxruntime
from waveedge.export.lowering import lower
from waveedge.export.passes.space_to_depth import SpaceToDepth
from waveedge.export.torch_to_onnx import to_onnx

from .conftest import operators, quantize, rewritten


class Stems(nn.Module):
    """Strided convolutions of one image, each from a corner of its own."""

    def __init__(self, readers: list[tuple[int, int, tuple[int, int]]], channels: int) -> None:
        super().__init__()
        self.corners = [corner for _, _, corner in readers]
        self.convs = nn.ModuleList(nn.Conv2d(channels, 8, k, s) for k, s, _ in readers)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [
            conv(x[:, :, top:, left:])
            for conv, (top, left) in zip(self.convs, self.corners, strict=True)
        ]


def stems(readers: list[tuple[int, int, tuple[int, int]]], shape, **settings) -> onnx.ModelProto:
    torch.manual_seed(0)
    graph = reparameterize(Stems(readers, shape[0]), shape[1:])
    quantize(graph, shape)
    return lower(to_onnx(graph.eval(), shape, **settings), "ort").encoded


@pytest.mark.parametrize(
    ("readers", "shape", "folded"),
    [
        ([(7, 4, (1, 1))], (3, 132, 136), [[12, 7, 2]]),
        ([(4, 4, (0, 0))], (1, 131, 128), [[4, 4, 1]]),
        ([(3, 3, (0, 0))], (4, 99, 102), [[12, 3, 1]]),
        (
            [(6, 2, (0, 0)), (7, 2, (1, 1)), (5, 2, (2, 4))],
            (3, 70, 74),
            [[12, 3, 3], [12, 3, 3], [12, 4, 4]],
        ),
        # 64 taps for 36 only pay where the image is folded for another one.
        ([(6, 2, (1, 1)), (6, 2, (0, 0))], (3, 70, 74), [[12, 3, 3], [12, 4, 4]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, "dynamic"])
def test_pixels_of_a_strided_convolution_become_channels_to_the_bit(
    run, readers, shape, folded, batch
):
    whole = stems(readers, shape, batch=batch)
    graph = rewritten(whole, SpaceToDepth())
    onnx.checker.check_model(graph, full_check=True)
    kernels = {t.name: list(t.dims)[1:] for t in graph.graph.initializer if "_folded" in t.name}
    assert sorted(kernels.values()) == folded
    # One image is folded once for all convolutions that read it.
    assert operators(graph)["Reshape"] - operators(whole)["Reshape"] <= 2
    x = np.random.default_rng(0).standard_normal((1 if batch == 1 else 2, *shape))
    got, wanted = (run(g, x.astype(np.float32)) for g in (graph, whole))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    optimised = operators(optimised_by_onnxruntime(graph.SerializeToString()))
    assert optimised["QLinearConv"] == len(readers)


@pytest.mark.parametrize(
    ("reader", "shape"),
    [
        ((4, 2, (0, 0)), (8, 80, 80)),  # many channels
        ((4, 2, (0, 0)), (3, 40, 40)),  # few outputs
        ((4, 2, (0, 0)), (3, 81, 80)),  # an odd row
        ((3, 2, (1, 1)), (3, 80, 80)),  # 16 taps for 9
        ((6, 2, (1, 1)), (3, 80, 80)),  # 64 taps for 36
        ((3, 1, (0, 0)), (3, 80, 80)),  # no stride
    ],
)
def test_other_convolutions_keep_their_pixels(reader, shape):
    graph = stems([reader], shape)
    assert operators(rewritten(graph, SpaceToDepth())) == operators(graph)
