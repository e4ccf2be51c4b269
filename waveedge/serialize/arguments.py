"""The arguments of nodes and layers as JSON.

Numbers, strings, None and lists stand for themselves, everything else is an object with one key
that says what it is: ``{"tuple": [1, 2]}``, ``{"node": "relu_1"}``, ``{"dtype": "float32"}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

__all__ = ["decode", "encode"]

_LARGEST = 2**63 - 1
_LONGEST = 10_000
_DEEPEST = 16

_DTYPES = """bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64
complex128"""
_CONSTANTS: dict[str, dict[str, Any]] = {
    "dtype": {name: getattr(torch, name) for name in _DTYPES.split()},
    "memory_format": {
        name: getattr(torch, name)
        for name in ("contiguous_format", "preserve_format", "channels_last")
    },
    "layout": {"strided": torch.strided},
    "device": {"cpu": torch.device("cpu")},
    "float": {"inf": math.inf, "-inf": -math.inf, "nan": math.nan},
    "constant": {"...": ...},
}
_NAMED = {
    (type(value), value): {tag: name}
    for tag, constants in _CONSTANTS.items()
    for name, value in constants.items()
}


def encode(value: Any) -> Any:
    """Return ``value`` as what :func:`decode` takes.

    Raises:
        ValueError: it holds something that is neither plain data nor a node.
    """
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, slice):
        return {"slice": [encode(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encode(item) for key, item in value.items()}}
    if isinstance(value, torch.device):
        value = torch.device(value.type)
    try:
        return dict(_NAMED[type(value), value])
    except (KeyError, TypeError):
        raise ValueError(f"an argument is {type(value).__name__} {value}") from None


def decode(value: Any, nodes: Mapping[str, fx.Node] | None = None, *, depth: int = 0) -> Any:
    """Undo :func:`encode`.

    Args:
        value: parsed JSON.
        nodes: those that may be referred to, by name.

    Raises:
        ValueError: it is not what :func:`encode` gives, too large, or refers to an unknown node.
    """
    if depth > _DEEPEST:
        raise ValueError("an argument is nested too deeply")
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        if abs(value) > _LARGEST:
            raise ValueError("an argument is too large a number")
        return value
    if isinstance(value, str | list | dict) and len(value) > _LONGEST:
        raise ValueError("an argument is too long")
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [decode(item, nodes, depth=depth + 1) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((tag, content),) = value.items()
        if tag in ("tuple", "slice") and isinstance(content, list):
            items = decode(content, nodes, depth=depth + 1)
            if tag == "tuple":
                return tuple(items)
            if len(items) == 3:
                return slice(*items)
        if tag == "dict" and isinstance(content, dict):
            return {key: decode(item, nodes, depth=depth + 1) for key, item in content.items()}
        known = (nodes or {}) if tag == "node" else _CONSTANTS.get(tag, {})
        if isinstance(content, str) and content in known:
            return known[content]
    raise ValueError(f"an argument is {str(value)[:60]}")
