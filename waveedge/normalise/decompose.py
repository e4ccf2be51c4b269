"""The functional form of an exported program, at a price that follows from the program.

Most programs have it as they are exported: no operation writes into its input, and composite
operators are such as :mod:`~waveedge.normalise.lift` knows. Tracing these anew would take longer
than exporting them did.

For the others, ``run_decompositions({})`` tells all composite operators of torch, some 600, to stay
whole, before it looks at a program that has a dozen: for a small network that is most of the time.
So torch is shown those of the program alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch._export.utils as utils
from torch import fx
from torch.export import ExportedProgram, exported_program

from waveedge.normalise.arguments import Arguments, bind

__all__ = ["functional"]

aten = torch.ops.aten

_KNOWN = hasattr(utils, "_is_cia_op") and hasattr(utils, "_is_preservable_cia_op")
"""Whether this is a torch that tells its composites from others in the way that is known here."""

_PLAIN = {
    aten.batch_norm.default,
    aten.chunk.default,
    aten.contiguous.default,
    aten.dropout.default,
    aten.expand_as.default,
    aten.flatten.using_ints,
    aten.reshape.default,
    aten.to.dtype,
}
"""Composites that torch always takes apart, and into operators that are no composites again."""


def functional(program: ExportedProgram) -> ExportedProgram:
    """``program.run_decompositions({})``, faster: no operation writes into its input."""
    if all(_is_functional(node) for node in program.graph.nodes):
        return program
    composites = _composites(program)
    way = nullcontext() if composites is None else patch(_ALL, lambda: composites)
    with way:
        found: ExportedProgram = program.run_decompositions({})
    return found


def _is_functional(node: fx.Node) -> bool:
    """Whether a node writes into nothing, and is an operation that stays whole or is plain here."""
    if node.op != "call_function":
        return node.op in ("placeholder", "output")
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        # Of sizes and of tuples; a part of the network in a graph of its own is no such thing.
        return not isinstance(target, torch._ops.OperatorBase)
    if target._schema.is_mutable or not _KNOWN:
        return False
    if not utils._is_cia_op(target) or utils._is_preservable_cia_op(target):
        return True
    plain = _AS_IT_IS.get(target)
    return plain is not None and plain(bind(node, {}))


def _joins_axes(a: Arguments) -> bool:
    dimensions = a["self"].meta["val"].dim()
    return bool(dimensions and a["start_dim"] % dimensions < a["end_dim"] % dimensions)


_AS_IT_IS: dict[Any, Callable[[Arguments], bool]] = {
    aten.batch_norm.default: lambda a: not a["training"],
    aten.contiguous.default: lambda a: True,
    **dict.fromkeys(
        (
            aten.dropout.default,
            aten.alpha_dropout.default,
            aten.feature_dropout.default,
            aten.feature_alpha_dropout.default,
        ),
        lambda a: not a["train"],
    ),
    aten.flatten.using_ints: _joins_axes,
    aten.reshape.default: lambda a: True,
    aten.to.dtype: lambda a: a["dtype"] == a["self"].meta["val"].dtype,
}
"""Composite operators that :mod:`~waveedge.normalise.lift` knows as they are, and when."""


_ALL = "torch.export.exported_program._collect_all_valid_cia_ops"


def _composites(program: ExportedProgram) -> set[Any] | None:
    """The composites of a program that stay whole; None where all of torch's may matter."""
    if not (_KNOWN and hasattr(exported_program, "_collect_all_valid_cia_ops")):
        return None
    found = set[Any]()
    for node in program.graph.nodes:
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or not utils._is_cia_op(target):
            continue
        if utils._is_preservable_cia_op(target):
            found.add(target)
        elif target not in _PLAIN:
            return None
    return found
