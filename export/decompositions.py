"""Operators that torch.onnx decomposes by tracing a program again, taken apart on its graph.

torch.onnx has no translation for transposed convolutions and batch norms as ``torch.export`` writes
them. It traces every program once more, to decompose what there may be of such operators; in most
networks there are these two or none.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from functools import cache, partial
from typing import Any

from torch import fx

__all__ = ["take_apart"]

_Change = Callable[[], object]


def take_apart(graph: fx.Graph, known: Collection[Any]) -> bool:
    """Take apart in place what is not ``known``, where that can be done for all of it.

    Args:
        graph: of a program that ``torch.export`` wrote.
        known: operators that have a translation.

    Returns:
        whether the graph now has operators alone that are known; if not, it is as it was. So are
        those with free sizes.
    """
    changes: list[_Change] = []
    for node in graph.nodes:
        if _is_free(node.meta.get("val")):
            return False
        if node.op in ("placeholder", "output") or node.target is operator.getitem:
            continue
        if node.op != "call_function":
            return False
        how = _ways().get(node.target)
        if how is not None:
            change = how(node)
            if change is None:
                return False
            changes.append(change)
        elif node.target not in known or _is_traced_through(node.target):
            return False
    for change in changes:
        change()
    return True


def _is_free(value: object) -> bool:
    """Whether a value, or the size of one, is known at no time but when the network runs."""
    import torch

    if isinstance(value, torch.Tensor):
        return any(isinstance(extent, torch.SymInt) for extent in value.shape)
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def _is_traced_through(target: Any) -> bool:
    """Whether tracing again makes others of an operator, although it has a translation.

    So it does of those that write into what they read, of composite ones that yield views, and
    of what is no operator, such as a branch.
    """
    import torch

    schema = getattr(target, "_schema", None)
    if schema is None:
        return True
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        target.name(), "CompositeImplicitAutograd"
    )
    views = any(argument.alias_info for argument in schema.arguments)
    return schema.is_mutable or (composite and views)


@cache
def _ways() -> dict[Any, Callable[[fx.Node], _Change | None]]:
    import torch

    aten = torch.ops.aten
    return {
        aten.conv_transpose2d.input: _conv_transpose2d,
        aten.batch_norm.default: _batch_norm,
        aten.reshape.default: _reshape,
        aten.flatten.using_ints: _reshape,
        aten.unflatten.int: _reshape,
    }


def _reshape(node: fx.Node) -> _Change:
    """To sizes that are all given."""
    import torch

    sizes = list(node.meta["val"].shape)
    return partial(_become, node, torch.ops.aten.reshape.default, (node.args[0], sizes))


def _conv_transpose2d(node: fx.Node) -> _Change | None:
    """A convolution with ``transposed``; None where the map has no batch."""
    import torch

    given = _arguments(node)
    if node.meta["val"].dim() != 4:
        return None

    before = [given[name] for name in ("input", "weight", "bias", "stride", "padding", "dilation")]
    after = [given[name] for name in ("output_padding", "groups")]
    return partial(_become, node, torch.ops.aten.convolution.default, (*before, True, *after))


def _batch_norm(node: fx.Node) -> _Change | None:
    """By statistics that are given; None for those of a batch, and where it is an output.

    A program knows its outputs by the names of their nodes.
    """
    import torch

    given = _arguments(node)
    statistics = [given[name] for name in ("running_mean", "running_var")]
    if given["training"] or None in statistics or any(user.op == "output" for user in node.users):
        return None

    def change() -> None:
        value = node.meta["val"]
        with node.graph.inserting_after(node):
            first = node.graph.call_function(operator.getitem, (node, 0))
        node.replace_all_uses_with(first, delete_user_cb=lambda user: user is not first)
        first.meta = dict(node.meta)
        node.meta = {**node.meta, "val": (value, value.new_empty(0), value.new_empty(0))}
        weights = [given[name] for name in ("input", "weight", "bias")]
        arguments = (*weights, *statistics, given["momentum"], given["eps"])
        _become(node, torch.ops.aten._native_batch_norm_legit_no_training.default, arguments)

    return change


def _become(node: fx.Node, target: Any, arguments: tuple[Any, ...]) -> None:
    node.target, node.args, node.kwargs = target, arguments, {}


def _arguments(node: fx.Node) -> dict[str, Any]:
    """By the names of the operator's schema; those that are left out as it has them."""
    found = {}
    for index, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if index < len(node.args):
            found[argument.name] = node.args[index]
        else:
            found[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return found
