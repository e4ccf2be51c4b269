"""Small int8 chains, conv -> activation -> conv, as Q/DQ graphs: one for every form of activation.

The form is all that differs between two chains of a case. Its neighbours are part of the graph
because they decide how it runs: which Q/DQ pairs fuse, and in which memory layout.

Tensors are uint8 with zero point 128 unless they are never negative (then 0), weights int8 per
output channel, biases int32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, sqrt
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["GELU", "LAYER_NORM", "STEP", "Case", "alone", "chain", "gelu"]

STEP = 4 / 127
"""The step of the grid on both sides of an activation: +-4 standard deviations."""

Array = NDArray[Any]

_SIGNED, _UNSIGNED = 128, 0  # zero points
_EPSILON = 1e-6
_QUICK = 1.702  # x * sigmoid(1.702 x) is within 0.021 of GELU (Hendrycks and Gimpel 2016)
_HARD = 1.8  # where a hard sigmoid saturates for x times it to be nearest to GELU; HardSwish has 3


class Graph:
    """A graph under construction; methods add nodes and return the name of their output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def quantize(self, x: str, step: float = STEP, zero: int = _SIGNED) -> str:
        return self.add("QuantizeLinear", x, self.constant(step), self.constant(zero, np.uint8))

    def dequantize(self, q: str, step: float = STEP, zero: int = _SIGNED) -> str:
        return self.add("DequantizeLinear", q, self.constant(step), self.constant(zero, np.uint8))

    def requantize(self, x: str, step: float = STEP, zero: int = _SIGNED) -> str:
        """Float in, float out, on a grid: what lets the operators on both sides fuse."""
        return self.dequantize(self.quantize(x, step, zero), step, zero)

    def conv(self, q: str, outputs: int, inputs: int, kernel: int = 1, groups: int = 1) -> str:
        """uint8 in, uint8 out; weights under which unit variance stays unit variance."""
        shape = (outputs, inputs // groups, kernel, kernel)
        weight = self._random.integers(-127, 128, shape, dtype=np.int8)
        steps = np.full(outputs, 1 / (73.6 * sqrt(np.prod(shape[1:]))), np.float32)
        bias = self._random.integers(-1000, 1000, outputs, dtype=np.int32)
        x = self.dequantize(q)
        w, b = (
            self.add("DequantizeLinear", self.constant(v, v.dtype), self.constant(s), axis=0)
            for v, s in ((weight, steps), (bias, steps * STEP))
        )
        pads = [kernel // 2] * 4
        return self.quantize(self.add("Conv", x, w, b, group=groups, pads=pads))

    def channel_mean(self, x: str, channels: int, sign: int = 1) -> str:
        """Mean over channels as a 1x1 convolution, which has an integer kernel; ReduceMean none."""
        weight = self.constant(np.full((1, channels, 1, 1), 127 * sign), np.int8)
        steps = self.constant(np.full(1, 1 / (127 * channels)))
        return self.add("Conv", x, self.add("DequantizeLinear", weight, steps, axis=0))

    def model(self, output: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("input", TensorProto.UINT8, inputs)],
            [helper.make_tensor_value_info(output, TensorProto.UINT8, outputs)],
            self.constants,
        )
        opsets = {"": 20, "com.microsoft": 1, "ai.onnx.ml": 3}
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*item) for item in opsets.items()]
        )
        model.ir_version = 9
        return bytes(model.SerializeToString())


Form = Callable[[Graph, str, int], str]
"""(graph, uint8 tensor, its channels) -> uint8 tensor."""


def gelu(x: Array) -> Array:
    """Exact GELU."""
    return np.asarray(x * (1 + np.vectorize(erf)(x / sqrt(2))) / 2)


def _floating(operator: str, **attributes: Any) -> Form:
    return lambda g, q, channels: g.quantize(g.add(operator, g.dequantize(q), **attributes))


def _integer_sigmoid(g: Graph, q: str, channels: int) -> str:
    # The factor in the sigmoid costs nothing: its branch reads the same bytes with larger steps.
    gate = g.add("Sigmoid", g.dequantize(q, _QUICK * STEP))
    return g.quantize(g.add("Mul", g.dequantize(q), g.requantize(gate, 1 / 255, _UNSIGNED)))


def _integer_hard_swish(g: Graph, q: str, channels: int) -> str:
    # A grid of +-_HARD saturates just as the hard sigmoid does. Its bytes, read as 0 .. 1, are
    # the gate. LeakyRelu with slope 1 is there only because an integer kernel exists for it.
    same = g.add("LeakyRelu", g.dequantize(q), alpha=1.0)
    gate = g.dequantize(g.quantize(same, 2 * _HARD / 255), 1 / 255, _UNSIGNED)
    return g.quantize(g.add("Mul", g.dequantize(q), gate))


def _hard_sigmoid(g: Graph, q: str, channels: int) -> str:
    gate = g.add("HardSigmoid", g.dequantize(q), alpha=0.5 / _HARD, beta=0.5)
    return g.quantize(g.add("Mul", g.dequantize(q), g.requantize(gate, 1 / 255, _UNSIGNED)))


def _table() -> Array:
    values = gelu((np.arange(256) - _SIGNED) * STEP)
    return np.asarray(np.clip(np.rint(values / STEP) + _SIGNED, 0, 255))


def _look_up(find: Callable[[Graph, str], str]) -> Form:
    def form(g: Graph, q: str, channels: int) -> str:
        # The integer convolutions work channels-last. onnxruntime moves no Transpose through a
        # look-up, but cancels these against its own.
        last = g.add("Transpose", q, perm=[0, 2, 3, 1])
        return g.add("Transpose", find(g, last), perm=[0, 3, 1, 2])

    return form


def _gather(g: Graph, q: str) -> str:
    index = g.add("Cast", q, to=TensorProto.INT32)
    return g.add("Gather", g.constant(_table(), np.uint8), index)


def _gather_nd(g: Graph, q: str) -> str:
    index = g.add("Cast", q, to=TensorProto.INT64)
    index = g.add("Unsqueeze", index, g.constant([-1], np.int64))
    return g.add("GatherND", g.constant(_table(), np.uint8), index)


def _feature_extractor(g: Graph, q: str) -> str:
    index = g.add("Reshape", g.add("Cast", q, to=TensorProto.INT64), g.constant([-1], np.int64))
    table = g.constant(_table()[np.newaxis], np.int32)  # it has no uint8 kernel
    found = g.add("ArrayFeatureExtractor", table, index, domain="ai.onnx.ml")
    found = g.add("Cast", found, to=TensorProto.UINT8)
    return g.add("Reshape", found, g.add("Shape", q))


GELU: Mapping[str, Form] = {
    "float": _floating("Gelu"),
    "float, tanh": _floating("Gelu", approximate="tanh"),
    "float, QuickGelu": _floating("QuickGelu", alpha=_QUICK, domain="com.microsoft"),
    "float, HardSwish": _floating("HardSwish"),
    "int8, x sigmoid(1.702 x)": _integer_sigmoid,
    "int8, x hard sigmoid by saturation": _integer_hard_swish,
    "int8, x HardSigmoid": _hard_sigmoid,
    "table, Gather": _look_up(_gather),
    "table, GatherND": _look_up(_gather_nd),
    "table, ArrayFeatureExtractor": _look_up(_feature_extractor),
    "none": lambda g, q, channels: q,
}
"""Forms of GELU. The first is what exporters leave; the last bounds what any form can give."""


def _layer_norm(g: Graph, q: str, channels: int) -> str:
    last = g.add("Transpose", g.dequantize(q), perm=[0, 2, 3, 1])
    scale, bias = g.constant(np.ones(channels)), g.constant(np.zeros(channels))
    y = g.add("LayerNormalization", last, scale, bias, axis=-1, epsilon=_EPSILON)
    return g.quantize(g.add("Transpose", y, perm=[0, 3, 1, 2]))


def _inverse_root(g: Graph, variance: str) -> str:
    safe = g.add("Add", variance, g.constant(_EPSILON))
    return g.add("Reciprocal", g.add("Sqrt", safe))


def _composed(g: Graph, q: str, channels: int) -> str:
    x, axes = g.dequantize(q), g.constant([1], np.int64)
    centred = g.add("Sub", x, g.add("ReduceMean", x, axes))
    variance = g.add("ReduceMean", g.add("Mul", centred, centred), axes)
    return g.quantize(g.add("Mul", centred, _inverse_root(g, variance)))


def _steps(g: Graph, q: str, channels: int) -> str:
    """Q/DQ on every step as it is written; ReduceMean and Sub have no integer kernel."""
    x, axes = g.dequantize(q), g.constant([1], np.int64)
    mean = g.requantize(g.add("ReduceMean", x, axes), 2 / 127)
    centred = g.requantize(g.add("Sub", x, mean), 5 / 127)
    square = g.requantize(g.add("Mul", centred, centred), 25 / 255, _UNSIGNED)
    variance = g.requantize(g.add("ReduceMean", square, axes), 6 / 255, _UNSIGNED)
    factor = g.requantize(_inverse_root(g, variance), 4 / 255, _UNSIGNED)
    return g.quantize(g.add("Mul", centred, factor))


def _convolved(g: Graph, q: str, channels: int) -> str:
    """Both means as 1x1 convolutions to one channel; only that channel's 1/sqrt is float."""
    x = g.dequantize(q)
    minus_mean = g.requantize(g.channel_mean(x, channels, -1), 2 / 127)
    centred = g.requantize(g.add("Add", x, minus_mean), 5 / 127)
    square = g.requantize(g.add("Mul", centred, centred), 25 / 255, _UNSIGNED)
    variance = g.requantize(g.channel_mean(square, channels), 6 / 255, _UNSIGNED)
    factor = g.requantize(_inverse_root(g, variance), 4 / 255, _UNSIGNED)
    return g.quantize(g.add("Mul", centred, factor))


LAYER_NORM: Mapping[str, Form] = {
    "float": _layer_norm,
    "float, composed": _composed,
    "int8, every step": _steps,
    "int8, means as 1x1 convs": _convolved,
    "none": lambda g, q, channels: q,
}
"""Forms of LayerNorm over channels, ordered as ``GELU``. Scale and bias: 1 and 0 (the next
convolution absorbs any others, exactly)."""


@dataclass(frozen=True)
class Case:
    """Where in a network an activation stands: input channels, channels between, map size."""

    name: str
    channels: int
    hidden: int
    size: tuple[int, int]


def chain(case: Case, activation: str, form: str) -> bytes:
    """A serialized model: conv, activation, conv; uint8 (1, channels, *size) in and out.

    GELU stands between the 1x1 convolutions of a feed-forward, LayerNorm between a depthwise
    5x5 convolution and the first of them.
    """
    g, c = Graph(), case.channels
    if activation == "GELU":
        q = GELU[form](g, g.conv("input", case.hidden, c), case.hidden)
        output, outputs = g.conv(q, c, case.hidden), c
    else:
        q = LAYER_NORM[form](g, g.conv("input", c, c, kernel=5, groups=c), c)
        output, outputs = g.conv(q, case.hidden, c), case.hidden
    return g.model(output, (1, c, *case.size), (1, outputs, *case.size))


def alone(activation: str, form: str, shape: tuple[int, int, int, int]) -> bytes:
    """A serialized model of the activation by itself, for what it computes; uint8 in and out."""
    g = Graph()
    forms = GELU if activation == "GELU" else LAYER_NORM
    return g.model(forms[form](g, "input", shape[1]), shape, shape)
