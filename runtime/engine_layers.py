"""What an engine's layers compute in, read from TensorRT's engine inspector.

The inspector writes JSON, one object a layer, in words that differ by version:

* ``Metadata`` names the ONNX nodes of a layer, ``[ONNX Layer: a/Conv]``, with control characters
  between; ``Name`` joins them with `` + ``, a convolution's weight first. TensorRT-RTX names the
  convolution in the metadata of what it does before and behind it, too.
* ``Inputs`` and ``Outputs`` have a type in ``Format/Datatype`` ("Thirty-two wide channel vectorized
  row major Int8 format", "Half"), TensorRT-RTX in ``Datatype``.
* ``Weights`` has a ``Type``; TensorRT-RTX has weights among ``Constants``.
* Where a type is missing, the tactic's name is the witness (``i8i8``).

The type of what a layer writes says nothing of what it computes in: an int8 convolution writes
float16 where what follows is float16, and a float one int8 where the quantizer was fused with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

__all__ = ["EngineLayer", "computing", "executed_bits", "layer_of", "read_layers"]

_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MULTIPLIES = re.compile(r"conv|correlation|gemm|matmul|matrix", re.IGNORECASE)
_SIGNALS = ("signal", "wait")
"""How streams wait for each other: no kernel."""
_TYPES = (
    (r"int4", 4),
    (r"u?int8|fp8|bool", 8),
    (r"bfloat16|bf16|half|fp16|float16", 16),
    (r"int32|float|fp32|float32", 32),
    (r"int64", 64),
)
_TACTIC = re.compile(r"(?:^|_)(i8i8|i8f|bf16bf16|f16f16|f32f32)", re.IGNORECASE)
_BY_TACTIC = {"i8i8": 8, "i8f": 8, "bf16bf16": 16, "f16f16": 16, "f32f32": 32}


@dataclass(frozen=True)
class EngineLayer:
    """One step of an engine.

    Attributes:
        named: the ONNX nodes that its name joins.
        nodes: those that its metadata has; the same where it has none.
        kind: TensorRT's word for it, for example ``CaskConvolution`` or ``gemm``.
        activation_bits: of its first input; None where nothing tells.
        weight_bits: of its weights, likewise.
        moved_bytes: what it reads and writes, constants not counted.
    """

    named: tuple[str, ...]
    nodes: tuple[str, ...]
    kind: str
    activation_bits: int | None
    weight_bits: int | None
    moved_bytes: int = 0

    @property
    def int8(self) -> bool:
        """Whether its main input is int8."""
        return self.activation_bits == 8


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
    found = (layer_of(layer) for layer in layers if isinstance(layer, dict))
    return [layer for layer in found if layer is not None]


def computing(layers: Iterable[EngineLayer]) -> dict[str, EngineLayer]:
    """Which layer computes an ONNX node.

    That is the one with its name; else one that multiplies, of those that have it in their
    metadata; else another one of these.
    """
    layers = sorted(layers, key=lambda layer: bool(_MULTIPLIES.search(layer.kind)))
    found = {node: layer for layer in layers for node in layer.nodes}
    return found | {node: layer for layer in layers for node in layer.named}


def executed_bits(
    layers: Iterable[EngineLayer], names: Iterable[str]
) -> dict[str, tuple[int, int]]:
    """Weight and activation bits of a network's layers, as an engine computes them.

    Args:
        layers: of the engine.
        names: paths of the network's layers; their ONNX nodes are ``path/Conv`` and the like.
    """
    by_node = computing(layers)
    bits = {}
    for name in names:
        for operator in _COMPUTE:
            layer = by_node.get(f"{name}/{operator}")
            if layer is not None and layer.activation_bits is not None:
                weight = layer.weight_bits or layer.activation_bits
                bits[name] = (weight, layer.activation_bits)
    return bits


def layer_of(fields: Mapping[str, Any]) -> EngineLayer | None:
    """Read one object of the inspector's JSON; None of what is no kernel."""
    kind = str(fields.get("LayerType", ""))
    if kind in _SIGNALS:
        return None
    inputs, constants, outputs = (
        [tensor for tensor in fields.get(name) or () if isinstance(tensor, dict)]
        for name in ("Inputs", "Constants", "Outputs")
    )
    weights = fields.get("Weights")
    stored = _bits_of(str(weights.get("Type", ""))) if isinstance(weights, dict) else None
    if stored is None:
        # Constants, or an operand behind the activations.
        stored = next(map(_bits, (*constants, *inputs[1:])), None)
    tactic = _TACTIC.search(str(fields.get("TacticName", "")))
    witness = _BY_TACTIC[tactic[1].lower()] if tactic else None
    given = _bits(inputs[0]) if inputs else None
    named = re.sub(r"_myl\d+_\d+$", "", str(fields.get("Name", "")))
    parts = tuple(part.strip() for part in re.split(r" \+ | \|\| ", named))
    metadata = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(fields.get("Metadata") or ""))
    return EngineLayer(
        named=parts,
        nodes=tuple(metadata) or parts,
        kind=kind,
        activation_bits=witness if given is None else given,
        weight_bits=witness if stored is None else stored,
        moved_bytes=sum(map(_bytes, (*inputs, *outputs))),
    )


def _bytes(tensor: Mapping[str, Any]) -> int:
    dimensions = tensor.get("Dimensions")
    extents = dimensions if isinstance(dimensions, list) else ()
    known = prod(extent for extent in extents if isinstance(extent, int) and extent > 0)
    return known * (_bits(tensor) or 32) // 8


def _bits(tensor: Mapping[str, Any]) -> int | None:
    return _bits_of(str(tensor.get("Format/Datatype") or tensor.get("Datatype") or ""))


def _bits_of(text: str) -> int | None:
    for pattern, bits in _TYPES:
        if re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", text, re.IGNORECASE):
            return bits
    return None
