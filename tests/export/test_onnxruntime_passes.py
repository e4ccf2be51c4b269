"""What the ort target rearranges for onnxruntime computes the same numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, fx, nn

from waveedge.compression.gelus import fit_gelus, place_gelus
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import Shapes, reparameterize
from waveedge.export.bundle import quantized_graph
from waveedge.export.finish import finish
from waveedge.export.layers import optimised_by_onnxruntime
from waveedge.export.paddings import absorb_paddings
from waveedge.export.pieces import in_pieces
from waveedge.export.sigmoids import integer_sigmoids
from waveedge.export.stems import fold_stems
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.nn import ActivationQuantizer, WTConv2d
from waveedge.spec import ModelSpec

STEP = 2.0**-5
SIZES = [(8, 12), (9, 7), (11, 16)]


def operators(graph: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph.node)


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


def quantize(graph: fx.GraphModule, shape: tuple[int, int, int], **fields: object) -> None:
    """8 bits, every activation in steps of STEP."""
    place_quantizers(graph, Shapes(graph, (1, *shape)), make_recipe({"bits": 8, **fields}))
    for module in graph.modules():
        if isinstance(module, ActivationQuantizer):
            module.scale.data.fill_(STEP)


def close(a: np.ndarray, b: np.ndarray, *, quantized: bool) -> None:
    """Equal; or, behind a quantizer, one step off where a value lay between two steps."""
    difference = np.abs(a - b)
    assert difference.max() < (1.01 * STEP if quantized else 2e-6)
    assert (difference > 2e-6).mean() < 0.01


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_odd_maps_need_no_pad_and_no_crop(run, size, quantized):
    model = wavelet(size, quantized=quantized)
    traced = to_onnx(model, (8, *size))
    plain, tight = (finish(quantized_graph(traced, target)) for target in ("onnx", "ort"))
    if size != (8, 12):
        assert operators(plain)["Pad"]
        assert operators(plain)["Slice"]
    # That of the input stays where a quantizer follows it: no grid is repeated there.
    assert operators(tight)["Pad"] == (quantized and size != (8, 12))
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
    tight = finish(quantized_graph(traced, "ort"))
    assert attribute(tight, "ConvTranspose", "group") == [2, 2]
    assert attribute(finish(quantized_graph(traced, "onnx")), "ConvTranspose", "group") == [8, 8]
    x = np.random.default_rng(0).standard_normal((1, 8, *size)).astype(np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    close(run(tight, x, as_written=True)[0], wanted, quantized=quantized)


def test_large_transposed_convolutions_keep_their_groups():
    traced = to_onnx(wavelet((64, 64), quantized=False), (8, 64, 64))
    graph = finish(quantized_graph(traced, "ort"))
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
    absorb_paddings(traced)
    graph = finish(traced)
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
def test_a_large_activation_is_computed_in_pieces_to_the_bit(run, height):
    graph = activation(height, 64, 64)
    divided = in_pieces(graph)
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


def test_a_norm_behind_an_activation_is_computed_in_pieces_of_channels_last(run):
    torch.manual_seed(0)
    graph = reparameterize(Stem().eval(), (64, 66))
    quantize(graph, (3, 64, 66))
    traced = to_onnx(graph.eval(), (3, 64, 66), batch="dynamic")
    assert operators(finish(quantized_graph(traced, "onnx")))["BatchNormalization"] == 1
    whole = finish(quantized_graph(traced, "ort"))
    assert not operators(whole)["BatchNormalization"]
    divided = in_pieces(whole)
    onnx.checker.check_model(divided, full_check=True)
    assert [operators(divided)[name] for name in ("Gelu", "Mul", "Split")] == [4, 4, 1]
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 66)).astype(np.float32)
    np.testing.assert_array_equal(run(divided, x)[0], run(whole, x)[0])
    with torch.no_grad():
        close(run(whole, x)[0], graph(torch.from_numpy(x)).numpy(), quantized=True)
    optimised = optimised_by_onnxruntime(divided.SerializeToString())
    assert operators(optimised)["QLinearConv"] == 2
    assert operators(optimised)["Transpose"] <= 3  # of the input, the output and the slice


def test_a_small_activation_stays_whole():
    assert operators(in_pieces(activation(63, 64, 64)))["Gelu"] == 1


def test_an_activation_whose_floats_are_read_stays_whole():
    graph = activation(64, 64, 64)
    graph.graph.output.append(onnx.helper.make_tensor_value_info("c", 1, ["N", 64, 64, 64]))
    assert operators(in_pieces(graph))["Gelu"] == 1


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
    exported = finish(quantized_graph(to_onnx(graph.eval(), (3, 8, 12), batch="dynamic"), "ort"))
    optimised = operators(optimised_by_onnxruntime(exported.SerializeToString()))
    assert optimised["QLinearGlobalAveragePool"] == 1
    assert not optimised["ReduceMean"]
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 12)).astype(np.float32)
    with torch.no_grad():
        # The bias of the linear layer is rounded to the grid of its accumulator.
        np.testing.assert_allclose(run(exported, x)[0], graph(torch.from_numpy(x)), atol=1e-4)


def gelu_between_integers(shape: tuple[int, int, int]) -> fx.GraphModule:
    """Two convolutions with an integer GELU between, its input in steps of STEP."""
    torch.manual_seed(0)
    graph = reparameterize(nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 4, 1)), (8, 8))
    quantize(graph, shape)
    place_gelus(graph, make_recipe({"bits": 8}))
    fit_gelus(graph)
    return graph.eval()


@pytest.mark.parametrize("batch", [1, "dynamic"])
def test_an_integer_gelu_runs_in_integer_kernels_with_the_numbers_of_torch(run, batch):
    shape = (3, 9, 7)
    graph = gelu_between_integers(shape)
    traced = to_onnx(graph, shape, batch=batch)
    shipped = integer_sigmoids(finish(quantized_graph(traced, "ort")))
    onnx.checker.check_model(shipped, full_check=True)
    count = operators(optimised_by_onnxruntime(shipped.SerializeToString()))
    assert (count["QLinearConv"], count["QLinearSigmoid"], count["QLinearMul"]) == (2, 1, 1)
    assert (count["QuantizeLinear"], count["DequantizeLinear"]) == (1, 1)
    signed = finish(quantized_graph(traced, "onnx"))
    x = 3 * np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    (got,) = run(shipped, x)
    # Both encodings, to the bit: uint8 in integer kernels, int8 as it is written.
    np.testing.assert_array_equal(got, run(signed, x, as_written=True)[0])
    with torch.no_grad():
        close(got, graph(torch.from_numpy(x)).numpy(), quantized=True)


def test_other_sigmoids_stay_as_they_are():
    """A grid whose zero point is not what the sums shift by, and a slope for each channel."""
    graph = finish(quantized_graph(to_onnx(gelu_between_integers((3, 8, 8)), (3, 8, 8)), "ort"))
    names = {name.rsplit(".")[-1]: name for name in (t.name for t in graph.graph.initializer)}
    for name, value in (("middle", np.float32(0.25)), ("slope", np.ones((8, 1, 1), np.float32))):
        changed = onnx.ModelProto.FromString(graph.SerializeToString())
        for tensor in changed.graph.initializer:
            if tensor.name == names[name]:
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        before, after = operators(changed), operators(integer_sigmoids(changed))
        assert after == before
    assert operators(integer_sigmoids(graph)) != operators(graph)


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
    return finish(quantized_graph(to_onnx(graph.eval(), shape, **settings), "ort"))


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
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, "dynamic"])
def test_pixels_of_a_strided_convolution_become_channels_to_the_bit(
    run, readers, shape, folded, batch
):
    whole = stems(readers, shape, batch=batch)
    graph = fold_stems(whole)
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
        ((3, 1, (0, 0)), (3, 80, 80)),  # no stride
    ],
)
def test_other_convolutions_keep_their_pixels(reader, shape):
    graph = stems([reader], shape)
    assert operators(fold_stems(graph)) == operators(graph)
