"""What the nodes of an exported program say of themselves."""

from __future__ import annotations

import operator
import re
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from waveedge.errors import ExportError
from waveedge.normalise.arguments import bind

__all__ = [
    "check_value",
    "drops_nothing",
    "is_same_cast",
    "is_size",
    "is_tensor",
    "module_path",
    "returned",
    "written_at",
]


def returned(program: ExportedProgram) -> list[Any]:
    """What the network returns, flat: without what it writes into its input or its buffers."""
    values = next(node for node in program.graph.nodes if node.op == "output").args[0]
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    pairs = zip(values, kinds, strict=True)
    return [value for value, kind in pairs if kind is OutputKind.USER_OUTPUT]


def is_tensor(value: Any) -> bool:
    """Whether an output of a program is a tensor, and not a number or None."""
    return isinstance(value, fx.Node) and isinstance(value.meta["val"], Tensor)


def check_value(model: nn.Module, node: fx.Node) -> None:
    """Refuse what no file for a device can hold, with the line of the user's code."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return
    name = type(model).__name__
    if value.dtype in (torch.float16, torch.bfloat16):
        raise ExportError(
            f"{name} casts to {str(value.dtype).partition('.')[2]}{written_at(node)}",
            hint="Compute in float32 there: leave out torch.autocast, .half() and .bfloat16(). "
            "The weights may be of any precision.",
        )
    if free_unbacked_symbols(value):
        raise ExportError(
            f"{name} yields as many values as the image decides ({node.target}){written_at(node)}",
            hint="Shapes must follow from the size of the image alone: write it with torch.where, "
            "or leave that step (a mask as index, nonzero, non-maximum suppression) to the program "
            "around the network.",
        )


def is_size(node: fx.Node) -> bool:
    """Whether a node computes with sizes, which are not constants."""
    return not isinstance(node.meta.get("val"), Tensor) and node.target is not operator.getitem


def is_same_cast(node: fx.Node) -> bool:
    """Whether a node converts a tensor to what it is already."""
    if node.target not in (torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype):
        return False
    before, after = node.all_input_nodes[0].meta["val"], node.meta["val"]
    return bool(before.dtype == after.dtype and before.device == after.device)


def drops_nothing(node: fx.Node) -> bool:
    """Whether an operation that can draw random numbers is told not to, as in eval mode."""
    told = bind(node, {})
    switches = [told[name] for name in ("train", "training") if name in told]
    return False in switches or 0 in (told.get("dropout_p"), told.get("dropout"))


def module_path(node: fx.Node) -> str:
    """Qualified name of the module that called an operation; a later call of it has a number."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return path.split("@")[0]


def written_at(node: fx.Node) -> str:
    """The line of the user's code that an operation comes from, or else the module."""
    trace = str(node.meta.get("stack_trace") or "").strip().splitlines()
    # Code that torch wrote itself, as for autocast, has a name in angle brackets.
    places = [line.strip() for line in trace if re.match(r'\s*File "(?!<)', line)]
    if not places:
        path = module_path(node)
        return f" in {path}" if path else ""
    file, line = places[-1].split('"')[1], places[-1].split("line ")[1].split(",")[0]
    return f" at {file.rpartition('/')[2]}:{line}"
