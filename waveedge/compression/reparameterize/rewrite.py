"""The contract of an exact rewrite, and the few graph edits that rewrites are made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeGuard, TypeVar

import torch
from torch import Tensor, fx, nn

from waveedge.compression.costs import CPU, CostProfile
from waveedge.compression.reparameterize.shapes import Shapes
from waveedge.normalise.capture import float_dtype

__all__ = ["Applied", "Rewrite", "Shapes"]

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Applied:
    """One application of one rule.

    Attributes:
        rule: the rewrite's name and the number of the rule in its docstring, as ``batchnorm.2``.
        where: qualified name of the layer that was rewritten.
        macs_before: multiply-adds of the layers involved, for one image.
        macs_after: the same after the rewrite.
    """

    rule: str
    where: str
    macs_before: int
    macs_after: int


@dataclass
class Rewrite(ABC):
    """One idea that changes how a network is computed and not what it computes.

    What a rewrite does may depend on the structure of the network and on the size of its input,
    on the prices of the device, and never on the values of weights: networks of one architecture
    get one form.

    Attributes:
        keep: qualified names of modules that must survive as they are.
        prices: of the device that the network shall run on.
    """

    name: ClassVar[str]
    keep: Collection[str] = field(default=())
    prices: CostProfile = field(default=CPU)

    @abstractmethod
    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        """Rewrite ``graph_module`` in place and say what was done.

        ``shapes`` holds the values of the graph as it enters; nodes made here are not in it.
        Nodes and modules that lose their last user need not be removed: the pipeline does.
        """

    def modules(self, graph_module: fx.GraphModule, *types: type[M]) -> Iterator[tuple[fx.Node, M]]:
        """The nodes that call a module of one of ``types`` and may be changed, in graph order."""
        for node in list(graph_module.graph.nodes):
            module = called(node, graph_module)
            if isinstance(module, types) and self.free(node):
                yield node, module

    def free(self, node: fx.Node | None) -> TypeGuard[fx.Node]:
        """Whether ``node`` calls a module that may be changed."""
        if node is None or node.op != "call_module" or node.target in self.keep:
            return False
        return len(calls(node.graph, str(node.target))) == 1


def called(node: Any, graph_module: fx.GraphModule) -> nn.Module | None:
    """The module that a node calls, if it is such a node."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return graph_module.get_submodule(str(node.target))
    return None


def calls(graph: fx.Graph, target: str) -> list[fx.Node]:
    """Every node that calls the module named ``target`` (a shared module has several)."""
    return [n for n in graph.nodes if n.op == "call_module" and n.target == target]


def source(node: fx.Node, index: int = 0) -> fx.Node:
    """The value that ``node`` takes as its argument number ``index``."""
    argument = node.args[index]
    assert isinstance(argument, fx.Node)
    return argument


def concatenated(node: fx.Node) -> list[fx.Node]:
    """The values that a concatenation of channels joins, nested ones flattened; else the node."""
    if node.op != "call_function" or node.target not in (torch.cat, torch.concat):
        return [node]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    values = node.args[0]
    if dim not in (1, -3) or not isinstance(values, (list, tuple)):
        return [node]
    return [part for value in values for part in concatenated(value)]  # type: ignore[arg-type]


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses a value, or None if there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def drop(node: fx.Node, replacement: fx.Node) -> None:
    """Let the users of ``node`` use ``replacement``, and remove ``node``."""
    node.replace_all_uses_with(replacement)
    node.graph.erase_node(node)


def prune(node: fx.Node) -> None:
    """Remove a node that nobody uses, and what was computed for it alone."""
    if node.users or node.op in ("placeholder", "output"):
        return
    inputs = node.all_input_nodes
    node.graph.erase_node(node)
    for value in inputs:
        prune(value)


def fresh_name(graph_module: fx.GraphModule, name: str) -> str:
    """``name``, or ``name`` and a number where a module of that name exists."""
    taken = dict(graph_module.named_modules())
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in names if candidate not in taken)


def numel(shape: Any) -> int:
    """Number of elements of a tensor of this shape."""
    return math.prod(int(size) for size in shape)


def new_conv(weight: Tensor, bias: Tensor | None, like: nn.Module, **options: Any) -> nn.Conv2d:
    """A Conv2d that holds ``weight`` (O, I/groups, k, k) and ``bias``, in ``like``'s dtype."""
    dtype = float_dtype(like)
    out_channels, in_channels, k_h, k_w = weight.shape
    groups = options.get("groups", 1)
    conv = nn.Conv2d(
        in_channels * groups, out_channels, (k_h, k_w), bias=bias is not None, **options
    )
    conv.weight = nn.Parameter(weight.detach().to(dtype))
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().to(dtype))
    return conv


def split(tensor: Tensor, parts: int, dim: int = 0) -> Tensor:
    """The axis ``dim`` of ``tensor`` as two axes, (parts, rest)."""
    shape = list(tensor.shape)
    shape[dim : dim + 1] = [parts, shape[dim] // parts]
    return tensor.reshape(shape)


def pair(option: Any) -> tuple[int, int]:
    """A stride, padding or dilation, which torch types loosely, as (vertical, horizontal)."""
    vertical, horizontal = option
    return int(vertical), int(horizontal)
