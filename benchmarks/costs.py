"""What a form of a network costs on paper: operations, feature maps, bytes that must move."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from waveedge.cost import FLOAT_BITS, Cost, LayerCost
from waveedge.runtime.bundle import open_bundle

__all__ = ["Account", "account", "executed", "executed_by_bundle", "quantized_by_peer"]

_WEIGHTED_NODES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGER_NODES = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger")
_FLOAT_NODES = (*_WEIGHTED_NODES, "FusedConv", "FusedGemm", "FusedMatMul")


@dataclass(frozen=True)
class Account:
    """The cost of one image.

    Attributes:
        macs: multiply-adds.
        bops: multiply-adds x weight bits x activation bits (arXiv 2205.12268).
        feature_bits: bits of all layers' input feature maps.
        minimal_bytes: input, output and weights, each moved once: no execution moves less.
        layer_bytes: what moves when every layer reads its input and weights and writes its
            output. Fewer than 8 bits are stored in 8.
    """

    macs: int
    bops: int
    feature_bits: int
    minimal_bytes: int
    layer_bytes: int

    def to_dict(self) -> dict[str, int]:
        """Return the fields as plain JSON."""
        return asdict(self)


def account(cost: Cost, image_elements: int, output_elements: int) -> Account:
    """Add up ``cost``; the network's input and output are float32."""
    weighted = [row for row in cost.layers if row.kind not in ("transform", "other")]
    weights = sum(row.params * _stored(row.weight_bits) for row in cost.layers)
    maps = sum(
        math.prod(row.input_shape) * row.calls * _stored(row.activation_bits)
        + row.output_bytes // 4 * _stored(row.activation_bits)
        for row in cost.layers
    )
    return Account(
        macs=cost.macs,
        bops=cost.bops,
        feature_bits=sum(math.prod(row.input_shape) * row.activation_bits for row in weighted),
        minimal_bytes=weights + 4 * (image_elements + output_elements),
        layer_bytes=weights + maps,
    )


def _stored(bits: int) -> int:
    """Bytes that a number of so many bits takes."""
    return 4 if bits == FLOAT_BITS else 1


def quantized_by_peer(cost: Cost, model: Path) -> Cost:
    """``cost`` with the layers at 8 bits whose nodes in ``model`` read quantized numbers.

    Peers keep the names of nodes, which start with the path of the torch module. A layer of
    several nodes counts as quantized when all of them are.
    """
    import onnx

    graph = onnx.load(model).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    seen: dict[str, list[bool]] = defaultdict(list)
    for node in graph.node:
        if node.op_type in _WEIGHTED_NODES:
            sources = [made_by.get(name) for name in node.input[:2]]
            seen[node.name.split("/")[0]].append(sources == ["DequantizeLinear"] * 2)

    def bits(row: LayerCost) -> LayerCost:
        nodes = [
            quantized
            for path, verdicts in seen.items()
            if path == row.name or path.startswith(f"{row.name}.")
            for quantized in verdicts
        ]
        if nodes and all(nodes):
            return replace(row, weight_bits=8, activation_bits=8)
        return row

    return replace(cost, layers=tuple(bits(row) for row in cost.layers))


def executed(model: Path) -> dict[str, int]:
    """Count the nodes with weights that onnxruntime computes in ``int8`` and in ``float``."""
    from waveedge.export.layers import optimised_by_onnxruntime

    kinds = [node.op_type for node in optimised_by_onnxruntime(model.read_bytes()).graph.node]
    return {
        "int8": sum(kind in _INTEGER_NODES for kind in kinds),
        "float": sum(kind in _FLOAT_NODES for kind in kinds),
    }


def executed_by_bundle(bundle: Path) -> dict[str, int]:
    """The same of a bundle, on the runtime of its target, as its manifest says."""
    layers = open_bundle(bundle).manifest["layers"]
    int8 = sum(layer["executed"]["weight_bits"] < FLOAT_BITS for layer in layers)
    return {"int8": int8, "float": len(layers) - int8}
