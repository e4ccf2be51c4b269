"""What the ort target rearranges for onnxruntime computes the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from waveedge.compression.reparameterize import reparameterize
from waveedge.export.layers import optimised_by_onnxruntime
from waveedge.export.lowering import lower
from waveedge.export.passes.paddings import FoldPadIntoConv
from waveedge.export.passes.tiling import TileActivations
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.nn import WTConv2d
from waveedge.normalise import normalise
from waveedge.spec import ModelSpec

from .conftest import close, operators, quantize, rewritten

SIZES = [(8, 12), (9, 7), (11, 16)]


def attribute(graph: onnx.ModelProto, op_type: str, name: str) -> list[object]:
    return [
        onnx.helper.get_attribute_value(item)
        for node in graph.graph.node
        if node.op_type == op_type
        for item in node.attribute
        if item.name == name
    ]


def wavelet(size: tuple[int, int], *, quantized: bool) -> nn.Module:
    """A WTConv of two levels in its band-wise form; with 8-bit weights and activations or not."""
    torch.manual_seed(0)
    layer = nn.Sequential(WTConv2d(8, 8, 3, wt_levels=2))
    layer.spec = ModelSpec(family="custom", channels=8)
    graph = reparameterize(layer, size)
    if quantized:
        quantize(graph, (8, *size), layers={"*": {"bits": 8}})
    return graph.eval()


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_odd_maps_need_no_pad_and_no_crop(run, size, quantized):
    model = wavelet(size, quantized=quantized)
    traced = to_onnx(model, (8, *size))
    plain, tight = (lower(traced, target).encoded for target in ("onnx", "ort"))
    if size != (8, 12):
        assert operators(plain)["Pad"]
        assert operators(plain)["Slice"]
    assert not operators(tight)["Pad"]
    assert not operators(tight)["Slice"]
    x = np.random.default_rng(0).standard_normal((1, 8, *size)).astype(np.float32)
    a, b = (run(graph, x, as_written=True)[0] for graph in (plain, tight))
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    close(b, wanted, quantized=quantized)
    close(a, b, quantized=quantized)


@pytest.mark.parametrize("quantized", [False, True])
def test_small_transposed_convolutions_have_a_quarter_of_the_groups(run, quantized):
    size = (16, 12)  # 8x6 and 4x3 pixels below
    model = wavelet(size, quantized=quantized)
    traced = to_onnx(model, (8, *size))
    tight = lower(traced, "ort").encoded
    assert attribute(tight, "ConvTranspose", "group") == [2, 2]
    assert attribute(lower(traced, "onnx").encoded, "ConvTranspose", "group") == [8, 8]
    x = np.random.default_rng(0).standard_normal((1, 8, *size)).astype(np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    close(run(tight, x, as_written=True)[0], wanted, quantized=quantized)


def test_large_transposed_convolutions_keep_their_groups():
    traced = to_onnx(wavelet((64, 64), quantized=False), (8, 64, 64))
    graph = lower(traced, "ort").encoded
    assert attribute(graph, "ConvTranspose", "group") == [8, 8]


class Padded(nn.Module):
    """A padding with ``value`` before a convolution, and a sum of the padded map if ``shared``."""

    def __init__(self, value: float, shared: bool) -> None:
        super().__init__()
        self.pad, self.conv = nn.ConstantPad2d((1, 2, 3, 0), value), nn.Conv2d(3, 4, 3)
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(x)
        y: Tensor = self.conv(x)
        return y + x.mean() if self.shared else y


@pytest.mark.parametrize(("value", "shared", "left"), [(0, False, 0), (1, False, 1), (0, True, 1)])
def test_only_zeros_that_convolutions_alone_read_become_their_padding(run, value, shared, left):
    model = Padded(value, shared).eval()
    traced = to_onnx(model, (3, 8, 9))
    FoldPadIntoConv()(traced)
    graph = lower(traced, "onnx").encoded
    assert operators(graph)["Pad"] == left
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 9)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(run(graph, x)[0], model(torch.from_numpy(x)), atol=2e-6)


def activation(height: int, width: int, channels: int) -> onnx.ModelProto:
    """uint8 -> GELU in floating point -> uint8, as the ort target writes it."""
    shape = f"N,{channels},{height},{width}"
    text = f"""
    <ir_version: 10, opset_import: ["" : 20]>
    agraph (float[{shape}] input) => (float[{shape}] output)
    <float step = {{0.05}}, uint8 zero = {{128}}>
    {{
        a = QuantizeLinear(input, step, zero)
        b = DequantizeLinear(a, step, zero)
        c = Gelu(b)
        d = QuantizeLinear(c, step, zero)
        output = DequantizeLinear(d, step, zero)
    }}
    """
    graph = onnx.parser.parse_model(text)
    for node in graph.graph.node:
        node.name = node.output[0]
    return graph


@pytest.mark.parametrize("height", [64, 67])
def test_a_large_activation_is_computed_in_tiles_to_the_bit(run, height):
    graph = activation(height, 64, 64)
    divided = rewritten(graph, TileActivations())
    onnx.checker.check_model(divided, full_check=True)
    assert operators(divided)["Gelu"] == 4
    assert operators(divided)["Concat"] == 1
    x = np.random.default_rng(0).standard_normal((2, 64, height, 64)).astype(np.float32)
    np.testing.assert_array_equal(run(divided, x)[0], run(graph, x)[0])


class Stem(nn.Module):
    """A GELU with a BatchNorm behind it, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = (
            nn.Conv2d(3, 64, 1),
            nn.BatchNorm2d(64),
            nn.Conv2d(64, 4, 3, padding=1),
        )
        for values in (self.norm.running_mean, self.norm.weight, self.norm.bias):
            nn.init.normal_(values)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(nn.functional.gelu(self.conv(x)))
        y: Tensor = self.last(x) + x[:, :4]
        return y


def test_a_norm_behind_an_activation_is_computed_in_tiles_of_channels_last(run):
    torch.manual_seed(0)
    graph = reparameterize(Stem().eval(), (64, 66))
    quantize(graph, (3, 64, 66))
    traced = to_onnx(graph.eval(), (3, 64, 66), batch="dynamic")
    assert operators(lower(traced, "onnx").encoded)["BatchNormalization"] == 1
    whole = lower(traced, "ort").encoded
    assert not operators(whole)["BatchNormalization"]
    divided = rewritten(whole, TileActivations())
    onnx.checker.check_model(divided, full_check=True)
    assert [operators(divided)[name] for name in ("Gelu", "Mul", "Split")] == [4, 4, 1]
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 66)).astype(np.float32)
    np.testing.assert_array_equal(run(divided, x)[0], run(whole, x)[0])
    with torch.no_grad():
        close(run(whole, x)[0], graph(torch.from_numpy(x)).numpy(), quantized=True)
    optimised = optimised_by_onnxruntime(divided.SerializeToString())
    assert operators(optimised)["QLinearConv"] == 2
    assert operators(optimised)["Transpose"] <= 3  # of the input, the output and the slice


def test_a_norm_of_vectors_stays_as_it_is():
    """Only the channels of maps can be the second of four dimensions."""
    layers = [nn.Flatten(), nn.Linear(12, 8), nn.GELU(), nn.BatchNorm1d(8), nn.Linear(8, 4)]
    graph = normalise(nn.Sequential(*layers), (3, 2, 2))
    quantize(graph, (3, 2, 2))
    exported = lower(to_onnx(graph.eval(), (3, 2, 2)), "ort").encoded
    assert operators(exported)["BatchNormalization"] == 1


def test_a_small_activation_stays_whole():
    assert operators(rewritten(activation(63, 64, 64), TileActivations()))["Gelu"] == 1


def test_an_activation_whose_floats_are_read_stays_whole():
    graph = activation(64, 64, 64)
    graph.graph.output.append(onnx.helper.make_tensor_value_info("c", 1, ["N", 64, 64, 64]))
    assert operators(rewritten(graph, TileActivations()))["Gelu"] == 1


class Pooled(nn.Module):
    """A convolution whose map is averaged, with channels last in memory, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.dense = (
            nn.Conv2d(3, 8, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Linear(8, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.dense(self.pool(x).flatten(1))
        return y


def test_the_mean_of_a_map_runs_in_integers(run):
    torch.manual_seed(0)
    graph = reparameterize(Pooled(), (8, 12))
    quantize(graph, (3, 8, 12))
    exported = lower(to_onnx(graph.eval(), (3, 8, 12), batch="dynamic"), "ort").encoded
    optimised = operators(optimised_by_onnxruntime(exported.SerializeToString()))
    assert optimised["QLinearGlobalAveragePool"] == 1
    assert not optimised["ReduceMean"]
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 12)).astype(np.float32)
    with torch.no_grad():
        # The bias of the linear layer is rounded to the grid of its accumulator.
        np.testing.assert_allclose(run(exported, x)[0], graph(torch.from_numpy(x)), atol=1e-4)
