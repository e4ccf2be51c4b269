"""An exported program as a graph of layers and functions."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from waveedge.errors import ExportError
from waveedge.normalise.arguments import bind
from waveedge.normalise.functions import FUNCTIONS, MOVES
from waveedge.normalise.layers import LAYERS
from waveedge.normalise.modules import owner_of, set_module
from waveedge.normalise.program import (
    check_value,
    drops_nothing,
    is_same_cast,
    is_size,
    is_tensor,
    module_path,
    returned,
    written_at,
)
from waveedge.normalise.whole import Call

__all__ = ["lift"]


def lift(program: ExportedProgram, model: nn.Module, calls: Sequence[Call]) -> fx.GraphModule:
    """Write ``program``, exported from ``model``, as a graph module.

    1. What depends on parameters alone is computed now, and is a constant.
    2. An operation whose weights are constants is the layer that it computes, under the name of the
       module that called it; called twice, it is two layers.
    3. A layer that was kept whole is called as it was in the network; called twice, it is two.
    4. Operations that move or join values are plain functions; copies vanish.
    5. Outputs that are no tensors drop out.

    Raises:
        ExportError: an operation draws random numbers, computes in half precision, or yields as
            many values as the image decides.
    """
    return _Lifter(program, model, calls).lift()


class _Lifter:
    def __init__(self, program: ExportedProgram, model: nn.Module, calls: Sequence[Call]) -> None:
        self.program = program
        self.model = model
        self.calls = calls
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.constants: dict[fx.Node, Any] = {}
        """Nodes of the program that are constants, with their values."""
        self.sources: dict[fx.Node, str] = {}
        """Of those, the names of parameters and buffers."""
        self.values: dict[fx.Node, fx.Node] = {}
        """Nodes of the program -> nodes of the graph."""
        self.results: dict[fx.Node, Any] = {}
        """Nodes of the program that yield several values -> those."""
        self.layers = set[str]()
        self.parameters = {name for name, _ in model.named_parameters()}

    def lift(self) -> fx.GraphModule:
        kinds = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, kinds[node.name])
            elif node.op == "call_function":
                self._call(node)
        tensors = [value for value in returned(self.program) if is_tensor(value)]
        found = tuple(self._value(value) for value in tensors)
        self.graph.output(found[0] if len(found) == 1 else found)
        name = type(self.model).__name__
        graph_module = fx.GraphModule(self.root, self.graph, class_name=name).eval()
        graph_module.graph.eliminate_dead_code()
        graph_module.delete_all_unused_submodules()
        graph_module.graph.lint()
        graph_module.recompile()
        return graph_module

    def _placeholder(self, node: fx.Node, spec: Any) -> None:
        if spec.kind is InputKind.USER_INPUT:
            if isinstance(node.meta.get("val"), Tensor):
                self.values[node] = self.graph.placeholder(node.name)
            else:  # the default of an optional argument
                self.constants[node] = spec.arg.value if hasattr(spec.arg, "value") else None
            return
        held = (
            self.program.state_dict
            if spec.target in self.program.state_dict
            else self.program.constants
        )
        self.constants[node] = held[spec.target].detach()
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            self.sources[node] = spec.target

    def _call(self, node: fx.Node) -> None:
        args: Any = node.args
        if node.target is operator.getitem and args[0] in self.results:
            self._take(node, self.results[args[0]], args[1])
            return
        if not node.users:  # an assertion, or a value that nobody reads
            return
        inputs = node.all_input_nodes
        tags = getattr(node.target, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags and not drops_nothing(node):
            raise ExportError(
                f"{type(self.model).__name__} draws random numbers ({node.target})"
                f"{written_at(node)}",
                hint="A network that is deployed must be deterministic: make it so in eval mode.",
            )
        check_value(self.model, node)
        if all(value in self.constants for value in inputs) and not is_size(node):
            self._compute(node)
        elif node.target is torch.ops.waveedge.whole.default:
            self._call_whole(node)
        elif node.target in MOVES or is_same_cast(node):
            self._alias(node, inputs[0])
        elif not self._as_layer(node) and not self._as_function(node):
            self._copy(node)

    def _compute(self, node: fx.Node) -> None:
        """Rule 1."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.constants.__getitem__)
        with torch.no_grad():
            self.constants[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        moved: Any = node.args[0] if node.target in MOVES else None
        if moved in self.sources:
            self.sources[node] = self.sources[moved]

    def _call_whole(self, node: fx.Node) -> None:
        """Rule 3."""
        tensors, number = cast(Any, node.args)
        call = self.calls[number]
        name = self._name(call.name)
        self._add(name, copy.deepcopy(call.layer))  # a layer that is called twice is two
        arguments = call.arguments([self._value(value) for value in tensors])
        result = self.graph.call_module(name, arguments)
        assert call.outputs is not None
        self.results[node] = _unpacked(self.graph, result, call.outputs)

    def _as_layer(self, node: fx.Node) -> bool:
        """Rule 2."""
        build = LAYERS.get(node.target)
        if build is None:
            return False
        bound = bind(node, self.constants)
        layer = build(bound)
        value = next(item for item in node.all_input_nodes if item not in self.constants)
        if layer is None or sum(n not in self.constants for n in node.all_input_nodes) != 1:
            return False
        name = self._layer_name(node, layer)
        self._add(name, layer)
        result = self.graph.call_module(name, (self._value(value),))
        if node.target is torch.ops.aten.mean.dim and not bound["keepdim"]:
            result = self.graph.call_function(torch.flatten, (result, 1))
        if isinstance(node.meta["val"], Tensor):
            self.values[node] = result
        else:  # a normalisation that yields its statistics too, which nobody reads
            self.results[node] = [result]
        return True

    def _as_function(self, node: fx.Node) -> bool:
        """Rule 4."""
        write = FUNCTIONS.get(node.target)
        form = None if write is None else write(bind(node, {}))
        if form is None:
            return False
        args = fx.node.map_arg(form.args, self._value)
        merged = _merged(form.target, args)
        if merged is None:  # a slice of everything
            self._alias(node, node.all_input_nodes[0])
        else:
            self.values[node] = self.graph.call_function(form.target, merged)
        return True

    def _copy(self, node: fx.Node) -> None:
        self.values[node] = self.graph.node_copy(node, self._value)
        self.values[node].meta = {}

    def _take(self, node: fx.Node, results: Sequence[Any], index: int) -> None:
        """Item ``index`` of what a call yielded."""
        if index < len(results):
            self.values[node] = results[index]

    def _alias(self, node: fx.Node, value: fx.Node) -> None:
        self.values[node] = self._value(value)

    def _value(self, node: fx.Node) -> fx.Node:
        """The node of the graph for a node of the program; a constant is read where it is used."""
        if node not in self.values:
            if node not in self.constants:
                raise KeyError(node)
            value = self.constants[node]
            if not isinstance(value, Tensor):
                return value  # type: ignore[no-any-return]
            self.values[node] = self.graph.get_attr(self._hold(node, value))
        return self.values[node]

    def _hold(self, node: fx.Node, value: Tensor) -> str:
        """Register a constant and return its name."""
        name = self.sources.get(node, f"constants.{node.name}")
        is_parameter = name in self.parameters
        if any(name.startswith(f"{layer}.") for layer in self.layers):
            name = f"constants.{name.replace('.', '_')}"
        owner, leaf = owner_of(self.root, name)
        if leaf not in {*owner._buffers, *owner._parameters}:
            kept = value.detach().clone()
            if is_parameter:
                owner.register_parameter(leaf, nn.Parameter(kept, kept.is_floating_point()))
            else:
                owner.register_buffer(leaf, kept)
        return name

    def _layer_name(self, node: fx.Node, layer: nn.Module) -> str:
        path = module_path(node)
        try:
            module = self.model.get_submodule(path)
        except AttributeError:  # the network was exported before, and notes where it was written
            module = self.model
        alone = all(name == "parametrizations" for name, _ in module.named_children())
        kind = str(node.target).split(".")[1].lstrip("_")
        if path and alone:
            return self._name(path)
        return self._name(f"{path}.{kind}" if path else kind)

    def _name(self, name: str) -> str:
        """``name``, or ``name`` and a number where a layer has it, or lies within or around it."""
        candidates = [name, *(f"{name}_{number}" for number in range(2, len(self.layers) + 3))]
        return next(candidate for candidate in candidates if not self._taken(candidate))

    def _taken(self, name: str) -> bool:
        try:
            self.root.get_submodule(name)
        except AttributeError:
            return any(name.startswith(f"{layer}.") for layer in self.layers)
        return True

    def _add(self, name: str, layer: nn.Module) -> None:
        self.layers.add(set_module(self.root, name, layer))


def _unpacked(graph: fx.Graph, result: fx.Node, outputs: Any) -> list[fx.Node]:
    """The leaves of what a layer yields, as items of items."""
    if outputs.is_leaf():
        return [result]
    found: list[fx.Node] = []
    for index, inner in enumerate(outputs.children()):
        key = outputs.context[index] if outputs.type is dict else index
        found += _unpacked(graph, graph.call_function(operator.getitem, (result, key)), inner)
    return found


def _merged(target: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Slices of slices in one step; None for a slice of everything."""
    if target is not operator.getitem or not isinstance(args[1], tuple):
        return args
    value, index = args
    if all(part == slice(None) for part in index):
        return None
    inner = value.args[1] if value.target is operator.getitem else None
    if not isinstance(inner, tuple) or not all(isinstance(part, slice) for part in inner):
        return args
    if not any(a != slice(None) != b for a, b in zip(inner, index, strict=True)):
        joined = tuple(b if a == slice(None) else a for a, b in zip(inner, index, strict=True))
        return value.args[0], joined
    return args
