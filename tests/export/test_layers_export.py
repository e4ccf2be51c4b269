"""Transforms, WCC and WTConv become standard operators that compute what the layers do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from waveedge.export.torch_to_onnx import to_onnx
from waveedge.nn import DWT2d, IDWT2d, WaveletCompressedConv2d, WTConv2d

SHAPING = {"Concat", "Gather", "Identity", "Reshape", "Shape", "Slice", "Squeeze", "Unsqueeze"}
PLAIN = {"Conv", "ConvTranspose", "Pad"}
FLOAT = {"weight_bits": 32, "activation_bits": 32}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def exported(layer: nn.Module, shape: tuple[int, int, int], *, dynamic: bool) -> onnx.ModelProto:
    model = ir.to_proto(to_onnx(layer.eval(), shape, batch="dynamic" if dynamic else 2))
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    return model


def run(model: onnx.ModelProto, x: Tensor) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found: list[Any] = session.run(None, {"input": x.numpy()})
    return found


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


class RoundTrip(nn.Module):
    def __init__(self, levels: int, wavelet: str, mode: str) -> None:
        super().__init__()
        self.forward_transform = DWT2d(levels, wavelet, mode)
        self.inverse_transform = IDWT2d(wavelet, mode)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, details = self.forward_transform(x)
        return self.inverse_transform((low, details)), low, details[0]


@pytest.mark.parametrize(
    ("levels", "wavelet", "mode", "size", "dynamic"),
    [
        (3, "db1", "zero", (16, 24), True),
        (2, "bior2.2", "symmetric", (17, 23), True),
        (1, "db4", "reflect", (16, 23), False),
        (2, "db4", "periodization", (33, 16), False),
        (1, "coif1", "periodic", (9, 10), False),
    ],
)
def test_transforms_are_plain_convolutions(
    levels: int, wavelet: str, mode: str, size: tuple[int, int], dynamic: bool
) -> None:
    module = RoundTrip(levels, wavelet, mode)
    model = exported(module, (3, *size), dynamic=dynamic)
    assert set(operators(model)) <= PLAIN | SHAPING
    if wavelet == "db1":  # one convolution a level, and even sizes need no border
        assert operators(model).count("Conv") == operators(model).count("ConvTranspose") == levels
        assert "Pad" not in operators(model)
    x = torch.randn(5 if dynamic else 2, 3, *size)
    for actual, expected in zip(run(model, x), module(x), strict=True):
        np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


def image_like(*shape: int) -> Tensor:
    """Noise whose strength falls with frequency, as in photographs."""
    noise = torch.randn(shape)
    return noise + 4 * nn.functional.avg_pool2d(noise, 5, 1, 2)


@pytest.mark.parametrize(
    ("options", "size", "dynamic"),
    [
        ({"ratio": 0.5, "levels": 2, "tiles": 4}, (17, 23), True),
        ({"ratio": 0.25, "levels": 2, "wavelet": "db2"}, (20, 21), False),
        ({"ratio": 1.0}, (17, 23), False),
    ],
)
def test_wcc_selects_the_same_positions(
    options: dict[str, Any], size: tuple[int, int], dynamic: bool
) -> None:
    layer = WaveletCompressedConv2d(8, 12, **options, **FLOAT)
    model = exported(layer, (8, *size), dynamic=dynamic)
    assert not set(operators(model)) & {"Loop", "Scan", "If", "NonZero", "ScatterND"}
    assert max(init.ByteSize() for init in model.graph.initializer) < 2000, "no stored zeros"

    x = image_like(5 if dynamic else 2, 8, *size)
    if layer.ratio < 1:
        (top,) = (node for node in model.graph.node if node.op_type == "TopK")
        assert top.input[1] in {init.name for init in model.graph.initializer}, "k is constant"
        assert {a.name: a.i for a in top.attribute}["sorted"] == 1
        (scatter,) = (node for node in model.graph.node if node.op_type == "ScatterElements")
        assert {a.name: a.s for a in scatter.attribute}.get("reduction", b"none") == b"none"
        model.graph.output.append(onnx.ValueInfoProto(name=top.output[1]))
        y, indices = run(model, x)
        positions = indices * layer.tiles + np.arange(layer.tiles)
        for ours, theirs in zip(layer.selected(x).tolist(), positions, strict=True):
            assert set(ours) == set(theirs.ravel().tolist())
    else:
        assert "TopK" not in operators(model)
        (y,) = run(model, x)
    np.testing.assert_allclose(y, layer(x).detach().numpy(), atol=1e-5)


def test_wtconv_is_plain_operators() -> None:
    layer = WTConv2d(4, 4, 3, 2, wt_levels=2)
    model = exported(layer, (4, 13, 18), dynamic=True)
    assert not set(operators(model)) & {"Loop", "Scan", "If"}
    x = torch.randn(3, 4, 13, 18)
    np.testing.assert_allclose(run(model, x)[0], layer(x).detach().numpy(), atol=1e-5)
