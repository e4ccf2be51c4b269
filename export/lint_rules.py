"""The rules of :mod:`waveedge.export.lint`, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto

from waveedge.export.lint_graph import Graph

__all__ = ["MAX_OPSET", "RULES", "TOPK_LIMIT", "Level", "Rule"]

Level = Literal["error", "warning"]

TOPK_LIMIT = 3840
MAX_OPSET = 20

Breach = tuple[onnx.NodeProto, str]


@dataclass(frozen=True)
class Rule:
    """A rule: ``check`` yields the nodes that break it, each with what was found."""

    name: str
    level: Level
    sentence: str
    mend: str
    check: Callable[[Graph], Iterator[Breach]]


RULES: list[Rule] = []


def _rule(
    name: str, sentence: str, mend: str, *, level: Level = "error"
) -> Callable[[Callable[[Graph], Iterator[Breach]]], Callable[[Graph], Iterator[Breach]]]:
    def register(check: Callable[[Graph], Iterator[Breach]]) -> Any:
        RULES.append(Rule(name, level, sentence, mend, check))
        return check

    return register


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            value = onnx.helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


@_rule(
    "standard-operators",
    "TensorRT knows standard ONNX operators only",
    "Write the layer with standard operators.",
)
def _standard_operators(graph: Graph) -> Iterator[Breach]:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield node, f"{node.domain}.{node.op_type}"


@_rule("opset", f"TensorRT 10.3 reads opset {MAX_OPSET} at most", f"Export with opset {MAX_OPSET}.")
def _opset(graph: Graph) -> Iterator[Breach]:
    for entry in graph.model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > MAX_OPSET and graph.nodes:
            yield graph.nodes[0], f"opset {entry.version}"


@_rule(
    "static-channels",
    "only batch, height and width may be dynamic",
    "Export the network with a fixed number of channels.",
)
def _static_channels(graph: Graph) -> Iterator[Breach]:
    for value in graph.model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim in dims[1:2] if len(dims) == 4 else dims[1:]:
            if dim.dim_param or not dim.HasField("dim_value"):
                yield onnx.NodeProto(name=value.name), f"dimension {dim.dim_param or '?'}"


@_rule("no-double", "TensorRT computes in float32 at most", "Convert the network with .float().")
def _no_double(graph: Graph) -> Iterator[Breach]:
    for node in graph.nodes:
        if any(graph.types.get(name) == TensorProto.DOUBLE for name in node.output):
            yield node, "float64"


@_rule(
    "topk-constant",
    "k of TopK must be a constant",
    "Export with a fixed --input-size, so that ratio x positions is a number.",
)
def _topk_constant(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("TopK"):
        if graph.constant(node, 1) is None:
            yield node, "a computed k"


@_rule("topk-sorted", "TopK must have sorted=1", "Ask for sorted values; their order is free.")
def _topk_sorted(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("TopK"):
        if not _attribute(node, "sorted", 1):
            yield node, "sorted=0"


@_rule(
    "topk-limit",
    f"k of TopK is {TOPK_LIMIT} at most",
    "Compress again for this input size: the selection is then cut into tiles below the limit.",
)
def _topk_limit(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("TopK"):
        k = graph.constant(node, 1)
        if k is not None and int(k.item()) > TOPK_LIMIT:
            yield node, f"k={int(k.item())}"


@_rule(
    "scatter-reduction",
    "ScatterElements and ScatterND must not reduce",
    "Scatter into zeros with reduction='none', and add afterwards.",
)
def _scatter_reduction(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("ScatterElements", "ScatterND"):
        if (reduction := _attribute(node, "reduction", "none")) != "none":
            yield node, f"reduction={reduction!r}"


@_rule("no-nonzero", "NonZero has an output of unknown size", "Select with TopK of a constant k.")
def _no_nonzero(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("NonZero"):
        yield node, "NonZero"


@_rule("no-bitwise", "there are no bitwise operators", "Use arithmetic on floats.")
def _no_bitwise(graph: Graph) -> Iterator[Breach]:
    for node in graph.nodes:
        if node.op_type.startswith("Bitwise") or node.op_type == "BitShift":
            yield node, node.op_type


@_rule(
    "zero-point",
    "zero points must be constant zeros",
    "Export with --target trt, which quantizes symmetrically.",
)
def _zero_point(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("QuantizeLinear", "DequantizeLinear"):
        if len(node.input) < 3 or not node.input[2]:
            continue
        zero = graph.constant(node, 2)
        if zero is None:
            yield node, "a computed zero point"
        elif np.any(zero.astype(np.float32) != 0):
            yield node, f"zero point {zero.flat[0]}"


@_rule("no-uint8", "uint8 is no quantized type", "Export with --target trt, which takes int8.")
def _no_uint8(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("QuantizeLinear", "DequantizeLinear"):
        by_default = node.op_type == "QuantizeLinear" and len(node.input) < 3
        kind = graph.type_of(node, 2 if node.op_type == "QuantizeLinear" else 0)
        if kind == TensorProto.UINT8 or (by_default and not _attribute(node, "output_dtype", 0)):
            yield node, "uint8"


@_rule("int32-bias", "int32 cannot be dequantized", "Keep biases in float32.")
def _int32_bias(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("DequantizeLinear"):
        if graph.type_of(node, 0) == TensorProto.INT32:
            yield node, "int32"


@_rule(
    "int4-weights",
    "convolutions take no INT4 weights",
    "Keep low-bit weights in int8 containers.",
)
def _int4_weights(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("Conv", "ConvTranspose"):
        if graph.quantized_type(node.input[1]) in (TensorProto.INT4, TensorProto.UINT4):
            yield node, "INT4 weights"


@_rule(
    "int4-activations",
    "convolutions take no INT4 activations",
    "Keep low-bit activations in int8 containers.",
)
def _int4_activations(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("Conv", "ConvTranspose", "Gemm", "MatMul"):
        if graph.quantized_type(node.input[0]) in (TensorProto.INT4, TensorProto.UINT4):
            yield node, "INT4 activations"


@_rule("no-fp8", "FP8 needs SM 8.9, and Jetson Orin has SM 8.7", "Quantize to int8.")
def _no_fp8(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("QuantizeLinear"):
        if graph.type_of(node, 2) in (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2):
            yield node, "FP8"


@_rule(
    "grouped-int8-deconvolution",
    "a grouped INT8 ConvTranspose is slow, and wants 4 channels a group",
    "Leave it in float (--skip), or let the exact rewrites make it a sub-pixel convolution.",
    level="warning",
)
def _grouped_deconvolution(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("ConvTranspose"):
        groups = _attribute(node, "group", 1)
        if groups > 1 and graph.quantized_type(node.input[0]) == TensorProto.INT8:
            shape = graph.weight_shape(node)
            width = f"{shape[0] // groups} channels" if shape else "unknown width"
            yield node, f"{groups} groups of {width}"


@_rule(
    "one-sided-join",
    "Add and Concat run in int8 only if all their inputs are dequantized",
    "Quantize the other branch too, or none.",
    level="warning",
)
def _one_sided_join(graph: Graph) -> Iterator[Breach]:
    for node in graph.all_of("Add", "Concat"):
        branches = [name for name in node.input if name not in graph.constants]
        quantized = [name for name in branches if graph.quantized_type(name)]
        if 0 < len(quantized) < len(branches):
            yield node, f"{len(quantized)} of {len(branches)}"
