"""torch's table of ONNX operators, made once a process."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any
from unittest.mock import patch

__all__ = ["one_table_of_operators"]


@contextmanager
def one_table_of_operators() -> Iterator[None]:
    """Keep torch.onnx from making its table anew for every export, which takes most of a second.

    There is no public way to hand it one. Where its internals are others than those known here, it
    goes its own way.
    """
    make = _maker()
    if make is None:
        yield
        return

    def table(*args: Any, **kwargs: Any) -> Any:
        copied = copy.copy(make(*args, **kwargs))  # an export adds translations of its own
        copied.functions = {name: list(found) for name, found in copied.functions.items()}
        return copied

    with patch(f"{_HOME}.ONNXRegistry.from_torchlib", staticmethod(table)):
        yield


_HOME = "torch.onnx._internal.exporter._registration"


@cache
def _maker() -> Any:
    """torch's function that makes the table, remembering what it made; None if there is none."""
    try:
        registry = import_module(_HOME).ONNXRegistry
        known = isinstance(registry().functions, dict)
    except (ImportError, AttributeError):
        return None
    return cache(registry.from_torchlib) if known else None
