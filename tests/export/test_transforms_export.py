"""Transforms and wavelet convolutions become standard operators that TensorRT accepts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from waveedge.export.lint import lint
from waveedge.export.lowering import lower
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.export.verify import verify
from waveedge.nn import DWT2d, IDWT2d, WTConv2d
from waveedge.runtime.engine_builder import backend_version, build_engine


class Transforms(nn.Module):
    """A deep Haar transform, a longer wavelet with mirrored borders, and a WTConv, on odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.haar, self.inverse = DWT2d(2), IDWT2d()
        self.long = DWT2d(1, "db2", "symmetric")
        self.conv = WTConv2d(3, 3, kernel_size=3, wt_levels=2)

    def forward(self, x: Tensor) -> Tensor:
        low, details = self.haar(self.conv(x))
        back = self.inverse((low, [detail * 2 for detail in details]))
        longer, _ = self.long(x)
        return back.mean((2, 3)) + longer.mean((2, 3))


@pytest.fixture(scope="module")
def graph(photos):
    torch.manual_seed(0)
    model = Transforms().eval()
    odd = [photo[..., :31, :29].copy() for photo in photos]
    exported = lower(to_onnx(model, (3, 31, 29)), "onnx").encoded
    verify(model, exported, odd)
    return exported


def test_only_standard_operators_are_left(graph):
    kinds = {node.op_type for node in graph.graph.node}
    assert {"Conv", "ConvTranspose"} <= kinds
    assert not kinds & {"Loop", "Scan", "If", "SequenceAt", "NonZero", "ScatterND"}
    assert lint(graph) == []


@pytest.mark.skipif(backend_version("tensorrt_rtx") is None, reason="needs extra [rtx]")
def test_the_graph_builds(graph):
    build = build_engine(graph.SerializeToString(), "tensorrt_rtx")
    assert build.engine, build.errors
