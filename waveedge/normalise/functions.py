"""Exported operations without weights as the functions that rewrites and quantizers know.

What is not here stays the operation that was exported.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx

from waveedge.normalise.arguments import Arguments

__all__ = ["FUNCTIONS", "MOVES", "Form"]

aten = torch.ops.aten

_END = 2**63 - 1
"""The end of a slice that goes to the end."""


class Form(NamedTuple):
    """A call of ``target`` with ``args``."""

    target: Callable[..., Any]
    args: tuple[Any, ...]


MOVES = {
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.detach_.default,
    aten.alpha_dropout.default,
    aten.dropout.default,
    aten.feature_alpha_dropout.default,
    aten.feature_dropout.default,
    aten.lift_fresh_copy.default,
}
"""Operations that yield their input: each value of a functional graph is written once."""


def _binary(function: Callable[..., Any]) -> Callable[[Arguments], Form | None]:
    def form(a: Arguments) -> Form | None:
        if a.get("alpha", 1) != 1 or a.get("rounding_mode") is not None:
            return None
        return Form(function, (a["self"], a["other"]))

    return form


def _pad(a: Arguments) -> Form | None:
    pads, mode, value = list(a["pad"]), a.get("mode", "constant"), a["value"]
    if mode == "constant":
        return Form(F.pad, (a["self"], pads) if not value else (a["self"], pads, mode, value))
    return Form(F.pad, (a["self"], pads, mode))


def _slice(a: Arguments) -> Form | None:
    start, end = a["start"] or None, a["end"]
    part = slice(start, None if end == _END else end, None if a["step"] == 1 else a["step"])
    return _index(a["self"], a["dim"], part)


def _select(a: Arguments) -> Form | None:
    return _index(a["self"], a["dim"], a["index"])


def _index(value: fx.Node, dim: int, index: Any) -> Form:
    dimensions = value.meta["val"].dim()
    before = (slice(None),) * (dim % dimensions)
    after = (slice(None),) * (dimensions - 1 - dim % dimensions)
    return Form(operator.getitem, (value, (*before, index, *after)))


def _reshape(a: Arguments) -> Form | None:
    """Axes joined, or one axis divided; else a reshape with -1 for one open size (the batch)."""
    value, size = a["self"], list(a["size"] if "size" in a else a["shape"])
    before = [_expression(side) for side in value.meta["val"].shape]
    after = [_expression(side.meta["val"] if isinstance(side, fx.Node) else side) for side in size]
    for start in range(len(before)):
        stop = start + 1 + len(before) - len(after)
        joined = [*before[:start], math.prod(before[start:stop]), *before[stop:]]
        if stop > start + 1 and all(a == b or b == -1 for a, b in zip(joined, after, strict=True)):
            args = (start,) if stop == len(before) else (start, stop - 1)
            return Form(torch.flatten, (value, *args))
    for axis in range(len(before)):
        stop = axis + 1 + len(after) - len(before)
        inner = size[axis:stop]
        if stop > axis + 1 and all(isinstance(side, int) and side > 0 for side in inner):
            divided = [*before[:axis], *inner, *before[axis + 1 :]]
            if math.prod(inner) == before[axis] and divided == after:
                return Form(torch.unflatten, (value, axis, tuple(inner)))
    unknown = [index for index, side in enumerate(size) if not isinstance(side, int)]
    if not unknown and before[:1] == after[:1]:
        unknown = [0]
    if len(unknown) == 1 and -1 not in size:
        size[unknown[0]] = -1
    return Form(torch.reshape, (value, tuple(size)))


def _flatten(a: Arguments) -> Form | None:
    value, dimensions = a["self"], a["self"].meta["val"].dim()
    start, end = a["start_dim"] % dimensions, a["end_dim"] % dimensions
    if start == end:
        return None
    return Form(torch.flatten, (value, start) if end == dimensions - 1 else (value, start, end))


def _expression(side: Any) -> Any:
    """A size as an expression that can be compared and multiplied."""
    return side.node.expr if isinstance(side, torch.SymInt) else side


FUNCTIONS: dict[Any, Callable[[Arguments], Form | None]] = {
    aten.add.Tensor: _binary(operator.add),
    aten.sub.Tensor: _binary(operator.sub),
    aten.mul.Tensor: _binary(operator.mul),
    aten.div.Tensor: _binary(operator.truediv),
    aten.cat.default: lambda a: Form(torch.cat, (list(a["tensors"]), a["dim"])),
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _flatten,
    aten.permute.default: lambda a: Form(torch.permute, (a["self"], tuple(a["dims"]))),
    aten.transpose.int: lambda a: Form(torch.transpose, (a["self"], a["dim0"], a["dim1"])),
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.unsqueeze.default: lambda a: Form(torch.unsqueeze, (a["self"], a["dim"])),
    aten.split.Tensor: lambda a: Form(torch.split, (a["self"], a["split_size"], a["dim"])),
    aten.split_with_sizes.default: lambda a: Form(
        torch.split, (a["self"], list(a["split_sizes"]), a["dim"])
    ),
}
