"""The steps of an engine, from the list of layers in the builder's log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

__all__ = ["Kernel", "read_kernels"]

_LAYER = re.compile(
    r"Name: (.*?), LayerType: (\w+), Inputs: (.*?), (?:Constants: .*?, )?Outputs: (.*?), Tactic"
)
_TENSOR = re.compile(r"Dimensions: \[([\d,]*)\].*?Datatype: (\w+)")
_BYTES = {"Int8": 1, "UInt8": 1, "Bool": 1, "Half": 2, "BFloat16": 2, "Int64": 8}
_SIGNALS = ("signal", "wait")
"""How streams wait for each other: no kernel."""


@dataclass(frozen=True)
class Kernel:
    """One step of a built engine.

    Attributes:
        name: starts with the name of the ONNX node that gave the kernel its work.
        kind: TensorRT's word for it, for example ``correlation`` (a convolution) or ``gemm``.
        int8: whether its main inputs are int8.
        moved_bytes: what it reads and writes, constants not counted.
    """

    name: str
    kind: str
    int8: bool
    moved_bytes: int = 0


def read_kernels(layers: str) -> list[Kernel]:
    """Reads the builder's list of layers: one line each, ``Name: ..., LayerType: ..., Inputs``."""
    kernels = []
    for line in layers.splitlines():
        match = _LAYER.match(line)
        if match is not None and match[2] not in _SIGNALS:
            name, kind, inputs, outputs = match.groups()
            moved = _size(inputs) + _size(outputs)
            kernels.append(Kernel(name, kind, "Datatype: Int8" in inputs, moved))
    return kernels


def _size(tensors: str) -> int:
    return sum(
        prod(int(extent) for extent in extents.split(",") if extent) * _BYTES.get(kind, 4)
        for extents, kind in _TENSOR.findall(tensors)
    )
