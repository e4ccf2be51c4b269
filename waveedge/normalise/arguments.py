"""The arguments of one exported operation, by name, with constants as the tensors they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

__all__ = ["Arguments", "bind", "is_constant", "pair"]

Arguments = Mapping[str, Any]
"""Argument name of the operation's schema -> node, plain value, or the tensor of a constant."""


def bind(node: fx.Node, constants: Mapping[fx.Node, Any]) -> dict[str, Any]:
    """Every argument of ``node``'s operation by its name, defaults included."""

    def value(item: Any) -> Any:
        if isinstance(item, fx.Node) and item in constants:
            return constants[item]
        if isinstance(item, (list, tuple)):
            return type(item)(value(part) for part in item)
        return item

    schema = node.target._schema.arguments  # type: ignore[union-attr]
    named = {argument.name: argument.default_value for argument in schema}
    named.update(zip([argument.name for argument in schema], node.args, strict=False))
    named.update(node.kwargs)
    return {name: value(item) for name, item in named.items()}


def pair(values: Any) -> tuple[int, int] | None:
    """A stride, padding or kernel size as (vertical, horizontal); None where it is not constant."""
    values = values if isinstance(values, (list, tuple)) else [values]
    if not all(isinstance(item, int) for item in values) or len(values) not in (1, 2):
        return None
    return values[0], values[-1]


def is_constant(*values: Any) -> bool:
    """Whether each of these is the tensor of a constant, or absent."""
    return all(item is None or isinstance(item, Tensor) for item in values)
