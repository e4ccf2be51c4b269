"""Which precision each layer was asked to have, and which one it is executed in.

Fewer than 8 bits run in 8-bit containers on every runtime here, and a layer between float
operations may run in float although it is quantized. So what is executed is not derived from what
was asked: it is read from what a runtime made of the graph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from torch import nn

from waveedge.export.fake_quantize import Grid, activation_grid, grid_of
from waveedge.export.graph_editing import array
from waveedge.export.origins import layer_of
from waveedge.export.passes.integer_weights import INT8
from waveedge.nn import DWT2d, IDWT2d
from waveedge.runtime.engine_layers import EngineLayer, computing

__all__ = ["Layer", "layers_of", "optimised_by_onnxruntime", "seen_in_engine", "seen_in_graph"]

_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger")
_FLOAT_BITS = 32
_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


@dataclass(frozen=True)
class Layer:
    """One weighted operation of the exported graph.

    Attributes:
        name: path of its torch module, or the node's name for a functional call.
        type: class of the module.
        node: name of the ONNX node.
        weight: name of the weight, as stored or computed from what is stored.
        weight_bits, activation_bits: as requested; 32 for float.
        ratio: share of the wavelet coefficients that are computed, 1 for other layers.
    """

    name: str
    type: str
    node: str
    weight: str
    weight_bits: int
    activation_bits: int
    ratio: float

    def to_dict(self, executed_in_int8: bool, precision: str) -> dict[str, Any]:
        """The layer's row in the manifest; ``precision`` is that of floating-point layers."""
        bits = 8 if executed_in_int8 else _BITS[precision]
        return {
            "name": self.name,
            "type": self.type,
            "requested": {
                "weight_bits": self.weight_bits,
                "activation_bits": self.activation_bits,
                "ratio": self.ratio,
            },
            "executed": {"weight_bits": bits, "activation_bits": bits},
        }


def layers_of(model: ir.Model, module: nn.Module) -> list[Layer]:
    """The layers of a graph as :func:`to_onnx` gives it, FakeQuantize nodes and all."""
    found = []
    modules = dict(module.named_modules())
    for node in model.graph:
        if node.op_type not in _COMPUTE:
            continue
        source, grid = _weight(node.inputs[1])
        if source is None:
            continue
        path = layer_of(node)
        owner = modules.get(path) if path else None
        if isinstance(owner, DWT2d | IDWT2d):
            continue  # a transform's filters are no weights
        activation = activation_grid(node.inputs[0])
        found.append(
            Layer(
                name=path or str(node.name),
                type=type(owner).__name__ if owner is not None else node.op_type,
                node=str(node.name),
                weight=str(source.name),
                weight_bits=grid.bits if grid is not None else _FLOAT_BITS,
                activation_bits=activation.bits if activation is not None else _FLOAT_BITS,
                ratio=float(getattr(owner, "ratio", 1.0)),
            )
        )
    return found


def optimised_by_onnxruntime(model: bytes) -> onnx.ModelProto:
    """The graph that onnxruntime's CPU provider executes in the place of this one."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        # onnxruntime warns that the file suits this machine only; it is read and thrown away.
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def seen_in_graph(optimised: onnx.ModelProto, layers: Iterable[Layer]) -> set[str]:
    """Names of the nodes whose integer weight is read by an integer operator."""
    read = [
        name
        for node in optimised.graph.node
        if node.op_type in _INTEGER
        for name in node.input
        if INT8 in name
    ]
    # An optimiser may append to a name, but keeps its beginning.
    return {
        layer.node
        for layer in layers
        if any(name.startswith(f"{layer.weight}{INT8}") for name in read)
    }


def seen_in_engine(kernels: Iterable[EngineLayer], layers: Iterable[Layer]) -> set[str]:
    """Names of the nodes that a TensorRT engine computes with a kernel on int8 inputs."""
    found = computing(kernels)
    return {layer.node for layer in layers if layer.node in found and found[layer.node].int8}


def _weight(value: ir.Value | None) -> tuple[ir.Value | None, Grid | None]:
    """The constant behind a weight, through its quantizer and a Transpose, and its grid."""
    grid = None
    while value is not None and (node := value.producer()) is not None:
        own = grid_of(node)
        if own is None and node.op_type != "Transpose":
            break
        grid = own or grid
        value = node.inputs[0]
    return (value, grid) if value is not None and _is_constant(value) else (None, None)


def _is_constant(value: ir.Value) -> bool:
    """Whether a value is stored, or computed from stored ones alone."""
    waiting, seen = [value], set()
    while waiting:
        found = waiting.pop()
        node = found.producer()
        if node is None and array(found) is None:
            return False
        seen.add(found)
        if node is not None:
            waiting += [each for each in node.inputs if each is not None and each not in seen]
    return True
