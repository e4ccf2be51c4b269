"""One small network with every kind of layer, traced once, and what all tests of graphs need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx_ir.passes import Sequential, common
from torch import Tensor, fx, nn

from waveedge.calibration import open_images
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import Shapes
from waveedge.export.passes.uint8_weights import Uint8Weights
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.nn import (
    ActivationQuantizer,
    DWT2d,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
    QuantizedLinear,
    WaveletCompressedConv2d,
    WeightQuantizer,
)
from waveedge.runtime.machine import int8_saturates
from waveedge.spec import ModelSpec

SHAPE = (3, 32, 32)
STEP = 2.0**-5


def quantizer(bits: int, scale: float, *, zero_point: int = 0) -> ActivationQuantizer:
    made = ActivationQuantizer(bits, zero_point=zero_point)
    made.scale.data.fill_(scale)
    return made


def integer_bias(layer: nn.Module, step: float) -> None:
    """Puts a bias on the grid of the layer's accumulator, as compression is to do."""
    assert isinstance(layer.weight_quantizer, WeightQuantizer)
    steps = torch.tensor(step) * layer.weight_quantizer.scale.detach()
    layer.bias.data = torch.round(layer.bias.data / steps) * steps


class Everything(nn.Module):
    """Low bits, ReLU, depthwise, concat, residual sum, linear layers on a map, transforms, WCC."""

    def __init__(self) -> None:
        super().__init__()
        self.q_in = quantizer(8, 2.0**-7)
        self.stem = QuantizedConv2d.from_float(nn.Conv2d(3, 8, 3, padding=1))
        self.q_relu = quantizer(4, 0.06, zero_point=-8)
        self.depthwise = QuantizedConv2d.from_float(nn.Conv2d(8, 8, 3, padding=1, groups=8))
        self.q_low = quantizer(3, 0.11)
        self.q_cat = quantizer(8, 0.01)
        self.mix = QuantizedConv2d.from_float(nn.Conv2d(16, 8, 1), 4)
        self.q_mix = quantizer(8, 0.006)
        self.q_sum = quantizer(8, 0.01)
        self.up = QuantizedLinear.from_float(nn.Linear(8, 16))
        self.q_hidden = quantizer(8, 0.004)
        self.down = QuantizedLinear.from_float(nn.Linear(16, 8))
        self.q_deconv = quantizer(8, 0.004)
        self.deconv = QuantizedConvTranspose2d.from_float(nn.ConvTranspose2d(8, 8, 4, 2, 1))
        self.transform = DWT2d(1)
        self.wcc = WaveletCompressedConv2d(8, 4, levels=2, ratio=0.5, tiles=2)
        self.wcc.activation_quantizer.scale.data.fill_(0.01)
        steps = {"stem": 2.0**-7, "depthwise": 0.06, "mix": 0.01, "up": 0.01, "down": 0.004}
        for name, step in steps.items():
            integer_bias(getattr(self, name), step)

    def forward(self, x: Tensor) -> Tensor:
        x = self.q_relu(torch.relu(self.stem(self.q_in(x))))
        y = self.q_low(self.depthwise(x))
        mixed = self.q_mix(self.mix(self.q_cat(torch.cat([x, y], dim=1))))
        x = self.q_sum(mixed + y).permute(0, 2, 3, 1)
        x = self.down(self.q_hidden(F.gelu(self.up(x)))).permute(0, 3, 1, 2)
        low, _ = self.transform(self.deconv(self.q_deconv(x)))
        return self.wcc(low)


class Integers(nn.Module):
    """Convolutions with a quantizer on both sides, and nothing else: all of it is int8 work."""

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.q_in = quantizer(8, 2.0**-7)
        self.first = QuantizedConv2d.from_float(nn.Conv2d(3, 8, 3, padding=1))
        self.q_mid = quantizer(bits, 0.5 / 2 ** (bits - 2))
        self.second = QuantizedConv2d.from_float(nn.Conv2d(8, 8, 1))
        self.q_out = quantizer(8, 0.01)
        integer_bias(self.first, 2.0**-7)
        integer_bias(self.second, self.q_mid.scale.item())

    def forward(self, x: Tensor) -> Tensor:
        return self.q_out(self.second(self.q_mid(torch.relu(self.first(self.q_in(x))))))


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Four real photographs as (1, 3, 32, 32), in -1 .. 1."""
    spec = ModelSpec(family="custom", preprocessing={"range": (-1.0, 1.0)}, input_size=SHAPE[1:])
    return open_images(None, spec=spec, limit=4, held_out=4).held_out


@pytest.fixture(scope="session")
def everything() -> SimpleNamespace:
    """``model`` and ``traced``, its graph with FakeQuantize nodes."""
    torch.manual_seed(0)
    model = Everything().eval()
    return SimpleNamespace(model=model, traced=to_onnx(model, SHAPE))


@pytest.fixture(scope="session")
def integers() -> SimpleNamespace:
    torch.manual_seed(1)
    model = Integers().eval()
    return SimpleNamespace(model=model, traced=to_onnx(model, SHAPE))


@pytest.fixture(scope="session")
def run() -> Callable[..., list[np.ndarray]]:
    """Runs a graph in onnxruntime; ``values`` names intermediate tensors to return instead."""

    def run_graph(
        graph: onnx.ModelProto,
        x: np.ndarray,
        *,
        values: list[str] | None = None,
        as_written: bool = False,
    ) -> list[np.ndarray]:
        if values is not None:
            graph = onnx.ModelProto.FromString(graph.SerializeToString())
            graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
        if int8_saturates() and not as_written:
            graph = rewritten(graph, Uint8Weights())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        if as_written:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(values, {"input": x})

    return run_graph


def rewritten(graph: onnx.ModelProto, *passes: ir.passes.PassBase) -> onnx.ModelProto:
    """A graph after single passes, as a pipeline runs them: shapes known, dead code removed."""
    shapes = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)
    steps = Sequential(shapes, *passes, common.RemoveUnusedNodesPass())
    return ir.to_proto(steps(ir.from_proto(graph)).model)


def operators(graph: onnx.ModelProto) -> Counter[str]:
    """How many nodes of each type a graph has."""
    return Counter(node.op_type for node in graph.graph.node)


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
