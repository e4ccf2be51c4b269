"""What an engine's layers compute in, read from TensorRT's engine inspector.

The inspector writes JSON, one object a layer, in words that differ by version:

* ``Metadata`` names the ONNX nodes of a layer, ``[ONNX Layer: a/Conv]``, with control characters
  between; ``Name`` joins them with `` + ``, where there is no metadata.
* ``Inputs`` and ``Outputs`` have a type in ``Format/Datatype`` ("Thirty-two wide channel vectorized
  row major Int8 format", "Half"), TensorRT-RTX in ``Datatype``.
* ``Weights`` has a ``Type``; where it is missing, the tactic's name is the witness (``i8i8``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["EngineLayer", "executed_bits", "read_layers"]

_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_TYPES = (
    (r"int4", 4),
    (r"u?int8|fp8", 8),
    (r"bfloat16|bf16|half|fp16|float16", 16),
    (r"int32|float|fp32|float32", 32),
)
_TACTIC = re.compile(r"(?:^|_)(i8i8|i8f|bf16bf16|f16f16|f32f32)", re.IGNORECASE)
_BY_TACTIC = {"i8i8": 8, "i8f": 8, "bf16bf16": 16, "f16f16": 16, "f32f32": 32}


@dataclass(frozen=True)
class EngineLayer:
    """One step of an engine.

    Attributes:
        nodes: names of the ONNX nodes that it computes.
        kind: TensorRT's word for it.
        activation_bits: of its first input; None where nothing tells.
        weight_bits: of its weights, likewise.
    """

    nodes: tuple[str, ...]
    kind: str
    activation_bits: int | None
    weight_bits: int | None


def read_layers(information: str) -> list[EngineLayer]:
    """Read what ``get_engine_information(LayerInformationFormat.JSON)`` gives; [] if it is less."""
    try:
        written = json.loads(information)
    except ValueError:
        return []
    layers = written.get("Layers") if isinstance(written, dict) else written
    if not isinstance(layers, list):
        return []
    # Of an engine without detailed verbosity, a layer is its name alone.
    found = [_layer(layer) for layer in layers if isinstance(layer, dict)]
    return [layer for layer in found if layer.kind not in ("signal", "wait")]  # of streams


def executed_bits(
    layers: Iterable[EngineLayer], names: Iterable[str]
) -> dict[str, tuple[int, int]]:
    """Weight and activation bits of a network's layers, as an engine computes them.

    Args:
        layers: of the engine.
        names: paths of the network's layers; their ONNX nodes are ``path/Conv`` and the like.
    """
    by_node = {node: layer for layer in layers for node in layer.nodes}
    bits = {}
    for name in names:
        for operator in _COMPUTE:
            layer = by_node.get(f"{name}/{operator}")
            if layer is not None and layer.activation_bits is not None:
                weight = layer.weight_bits or layer.activation_bits
                bits[name] = (weight, layer.activation_bits)
    return bits


def _layer(layer: Mapping[str, Any]) -> EngineLayer:
    inputs = [_bits(entry) for entry in layer.get("Inputs") or () if isinstance(entry, dict)]
    weights = layer.get("Weights")
    stored = _bits_of(str(weights.get("Type", ""))) if isinstance(weights, dict) else None
    # TensorRT-RTX has weights among the inputs, behind the activations.
    apart = inputs[1] if stored is None and len(inputs) > 1 else stored
    by_tactic = _TACTIC.search(str(layer.get("TacticName", "")))
    witness = _BY_TACTIC[by_tactic[1].lower()] if by_tactic else None
    return EngineLayer(
        nodes=_nodes(layer),
        kind=str(layer.get("LayerType", "")),
        activation_bits=inputs[0] if inputs else witness,
        weight_bits=apart if apart is not None else witness,
    )


def _nodes(layer: Mapping[str, Any]) -> tuple[str, ...]:
    named = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(layer.get("Metadata") or ""))
    if named:
        return tuple(named)
    joined = re.sub(r"_myl\d+_\d+$", "", str(layer.get("Name", "")))
    return tuple(part.strip() for part in re.split(r" \+ | \|\| ", joined))


def _bits(tensor: Mapping[str, Any]) -> int | None:
    return _bits_of(str(tensor.get("Format/Datatype") or tensor.get("Datatype") or ""))


def _bits_of(text: str) -> int | None:
    for pattern, bits in _TYPES:
        if re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", text, re.IGNORECASE):
            return bits
    return None
