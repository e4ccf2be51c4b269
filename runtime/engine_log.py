"""The layers of an engine, from the list in the builder's log: for where no GPU loads the engine.

A line a layer, with the fields and words that the engine inspector writes as JSON, so that what
they mean is read in one place, :mod:`~waveedge.runtime.engine_layers`.
"""

from __future__ import annotations

import re
from typing import Any

from waveedge.runtime.engine_layers import EngineLayer, layer_of

__all__ = ["read_log"]

_TENSORS = r"(\[\]|\[.*?\}\])"
_LAYER = re.compile(
    rf"Name: (.*?), LayerType: (\w+), Inputs: {_TENSORS}, "
    rf"(?:Constants: {_TENSORS}, )?Outputs: {_TENSORS}(.*)"
)
_TENSOR = re.compile(r"Dimensions: \[([-\d,]*)\].*?Datatype: ([^,}]*)")
_WEIGHTS = re.compile(r'Weights: \{"Type": "(\w+)"')
_TACTIC = re.compile(r"TacticName: ([^,]*)")
_METADATA = re.compile(r"Metadata: (.*)")


def read_log(text: str) -> list[EngineLayer]:
    """Read the builder's list of layers, ``Name: ..., LayerType: ..., Inputs: [ { ... }], ...``."""
    found = (_LAYER.match(line) for line in text.splitlines())
    layers = (layer_of(_fields(*match.groups(default="[]"))) for match in found if match)
    return [layer for layer in layers if layer is not None]


def _fields(
    name: str, kind: str, inputs: str, constants: str, outputs: str, rest: str
) -> dict[str, Any]:
    """A layer as the inspector's JSON has it."""
    weights, tactic, nodes = (part.search(rest) for part in (_WEIGHTS, _TACTIC, _METADATA))
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": _tensors(inputs),
        "Constants": _tensors(constants),
        "Outputs": _tensors(outputs),
        "Weights": {"Type": weights[1]} if weights else None,
        "TacticName": tactic[1] if tactic else "",
        "Metadata": nodes[1] if nodes else "",
    }


def _tensors(text: str) -> list[dict[str, Any]]:
    return [
        {
            "Dimensions": [int(extent) for extent in extents.split(",") if extent],
            "Datatype": kind.strip(),
        }
        for extents, kind in _TENSOR.findall(text)
    ]
