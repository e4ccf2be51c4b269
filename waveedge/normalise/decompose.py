"""The functional form of an exported program, at a price that follows from the program.

``run_decompositions({})`` tells all composite operators of torch, some 600, to stay whole, before
it looks at a program that has a dozen: for a small network that is most of the time. So torch is
shown those of the program alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
import torch._export.utils as utils
from torch.export import ExportedProgram, exported_program

__all__ = ["functional"]

aten = torch.ops.aten

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
    composites = _composites(program)
    way = nullcontext() if composites is None else patch(_ALL, lambda: composites)
    with way:
        found: ExportedProgram = program.run_decompositions({})
    return found


_ALL = "torch.export.exported_program._collect_all_valid_cia_ops"


def _composites(program: ExportedProgram) -> set[Any] | None:
    """The composites of a program that stay whole; None where all of torch's may matter."""
    if not (hasattr(utils, "_is_cia_op") and hasattr(utils, "_is_preservable_cia_op")):
        return None  # another version of torch
    if not hasattr(exported_program, "_collect_all_valid_cia_ops"):
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
