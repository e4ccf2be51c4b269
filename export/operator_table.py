"""What torch.onnx does for every export and need not: tables of operators, and a second trace."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from typing import Any
from unittest.mock import patch

from waveedge.export.decompositions import take_apart

__all__ = ["one_table_of_operators"]


@contextmanager
def one_table_of_operators() -> Iterator[None]:
    """Keep torch.onnx from making its tables anew for every export, which takes over a second.

    1. The ONNX operators by torch's.
    2. How torch's other operators are decomposed.
    3. All composite operators that torch knows.

    Nor does it decompose a program of operators that all are ONNX's already, by tracing it again,
    which is half of the time that a network takes.

    There is no public way to hand it any. Where its internals are others than those known here, it
    goes its own way.
    """
    with ExitStack() as stack:
        for place, replacement in _replacements():
            stack.enter_context(patch(place, replacement))
        yield


_ONNX = "torch.onnx._internal.exporter"


@cache
def _replacements() -> list[tuple[str, Any]]:
    """Places in torch, and what remembers what they made."""
    try:
        registry = import_module(f"{_ONNX}._registration").ONNXRegistry
        known = isinstance(registry().functions, dict)
        decompose = import_module(f"{_ONNX}._decomp").create_onnx_friendly_decomposition_table
        collect = import_module("torch.export.exported_program")._collect_all_valid_cia_ops
        again = import_module("torch.export.decomp_utils")._collect_all_valid_cia_ops
        overloads = import_module(f"{_ONNX}._decomp").get_onnx_implemented_overloads
        trace_again = import_module(f"{_ONNX}._fx_passes").decompose_with_registry
    except (ImportError, AttributeError):
        return []
    if not known or collect is not again:
        return []
    tables = cache(registry.from_torchlib)
    decompositions = cache(lambda operators, _namespaces: decompose(operators))
    composites = cache(lambda _namespaces: frozenset(collect()))

    def namespaces() -> frozenset[str]:
        """Other libraries may bring operators of their own between two exports."""
        import torch

        return frozenset(torch.ops._dir)

    def table(*args: Any, **kwargs: Any) -> Any:  # rule 1
        copied = copy.copy(tables(*args, **kwargs))  # an export adds translations of its own
        copied.functions = {name: list(found) for name, found in copied.functions.items()}
        return copied

    def decomposition(operators: Collection[Any]) -> dict[Any, Any]:  # rule 2
        return dict(decompositions(frozenset(operators), namespaces()))

    def all_composites() -> set[Any]:  # rule 3
        return set(composites(namespaces()))

    def decomposed(program: Any, operators: Any) -> Any:
        if take_apart(program.graph_module.graph, set(overloads(operators))):
            return program
        return trace_again(program, operators)

    return [
        (f"{_ONNX}._registration.ONNXRegistry.from_torchlib", staticmethod(table)),
        (f"{_ONNX}._decomp.create_onnx_friendly_decomposition_table", decomposition),
        ("torch.export.exported_program._collect_all_valid_cia_ops", all_composites),
        ("torch.export.decomp_utils._collect_all_valid_cia_ops", all_composites),
        (f"{_ONNX}._fx_passes.decompose_with_registry", decomposed),
    ]
