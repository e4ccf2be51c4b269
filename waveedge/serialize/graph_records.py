"""A graph of layers as a record of plain data, and back.

The record names functions, methods and kinds of layers from fixed tables. torch.fx turns a graph
into Python source: every name that goes in there is checked to be nothing more than a name.
"""

from __future__ import annotations

import keyword
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor, fx, nn

from waveedge.bounds import Name

from .arguments import decode, encode
from .functions import ATTRIBUTES, METHODS, function_named, name_of_function
from .kinds import describe_layer, make_layer
from .tensors import TensorRecord

__all__ = ["GraphRecord", "describe_graph", "rebuild_graph"]

_MOST = 20_000


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or keyword.iskeyword(name):
        raise ValueError("must be an identifier")
    return name


Identifier = Annotated[Name, AfterValidator(_identifier)]
_PATH = re.compile(r"""[^\x00-\x1f\x7f"'\\.]+(\.[^\x00-\x1f\x7f"'\\.]+){0,63}""")


class NodeRecord(BaseModel):
    """A node; ``args`` and ``kwargs`` as :mod:`waveedge.serialize.arguments` writes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    op: Literal["placeholder", "get_attr", "call_function", "call_method", "call_module", "output"]
    name: Identifier
    target: Name
    args: list[Any]
    kwargs: dict[Identifier, Any]


class LayerRecord(BaseModel):
    """What makes a layer, but for its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Name
    arguments: dict[Identifier, Any]


class GraphRecord(BaseModel):
    """Everything of a graph but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier
    nodes: Annotated[list[NodeRecord], Field(max_length=_MOST)]
    layers: Annotated[dict[Name, LayerRecord], Field(max_length=_MOST)]
    """By qualified name: what nodes of ``call_module`` call."""


def describe_graph(graph_module: fx.GraphModule) -> tuple[GraphRecord, set[str]]:
    """Return the record of a graph, and the names of the tensors that it needs.

    Raises:
        ValueError: a node or a layer is nothing that a record can hold; the text names it.
    """
    if type(graph_module.graph._codegen) is not fx.graph.CodeGen:
        raise ValueError("its inputs or outputs are not flat")
    nodes, layers, tensors = [], {}, set[str]()
    for node in graph_module.graph.nodes:
        try:
            nodes.append(_describe_node(node))
            if node.op == "call_module" and node.target not in layers:
                layer = graph_module.get_submodule(node.target)
                layers[node.target] = _describe_layer(layer)
                tensors |= {f"{node.target}.{name}" for name, _ in _named_tensors(layer)}
            elif node.op == "get_attr":
                tensors.add(_tensor_name(graph_module, node.target))
        except ValueError as error:
            where = node.target if node.op == "call_module" else node.name
            raise ValueError(f"{where}: {error}") from error
    name = type(graph_module).__name__
    record = GraphRecord(
        name=name if name.isidentifier() and name.isascii() else "Network",
        nodes=nodes,
        layers=layers,
    )
    return record, tensors


def rebuild_graph(record: GraphRecord, tensors: Mapping[str, TensorRecord]) -> fx.GraphModule:
    """Build the graph of a record, in eval mode; its tensors hold shapes alone (device meta).

    Args:
        record: from a file that need not be trusted.
        tensors: the records of all tensors; those that no layer owns are made from these.

    Raises:
        ValueError: the record makes no sense.
    """
    try:
        module = fx.GraphModule(nn.Module(), fx.Graph(), class_name=record.name)
        # A layer's first numbers are thrown away: they cost nothing, and draw no random numbers.
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for path, layer in sorted(record.layers.items()):  # parents first
                _insert(module, path, make_layer(layer.kind, layer.arguments))
            for node in record.nodes:
                if node.op == "get_attr":
                    _add_tensor(module, node.target, tensors)
        module.graph = _rebuild_nodes(record)
        module.graph.lint()
        return module.eval()
    except Exception as error:  # whatever a constructor or torch.fx raises on senseless arguments
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"its graph makes no sense: {reason[:200]}") from error


def _describe_node(node: fx.Node) -> NodeRecord:
    target = str(node.target)
    if node.op == "call_function":
        target = name_of_function(node.target)
    elif node.op == "call_method" and target not in METHODS:
        raise ValueError(f"it calls the method {target}")
    elif node.op in ("call_module", "get_attr") and not _PATH.fullmatch(target):
        raise ValueError("its name holds quotes or control characters")
    return NodeRecord(
        op=node.op,  # type: ignore[arg-type]
        name=node.name,
        target=target,
        args=[encode(item) for item in node.args],
        kwargs={name: encode(item) for name, item in node.kwargs.items()},
    )


def _describe_layer(layer: nn.Module) -> LayerRecord:
    """The record of a layer, checked to give the same layer again."""
    kind, arguments = describe_layer(layer)
    try:
        with torch.device("meta"):
            difference = _difference(layer, make_layer(kind, arguments).eval())
    except Exception as error:  # whatever its constructor raises
        raise ValueError(f"this {kind} was changed by hand: {error}") from error
    if difference:
        raise ValueError(f"this {kind} was changed by hand: {difference} differs")
    return LayerRecord(kind=kind, arguments=arguments)


def _difference(layer: nn.Module, again: nn.Module) -> str:
    """In what two layers differ, apart from the numbers in their tensors."""
    if [(n, type(m)) for n, m in layer.named_modules()] != [
        (n, type(m)) for n, m in again.named_modules()
    ]:
        return "its parts"
    shapes = [{n: tuple(t.shape) for n, t in _named_tensors(one)} for one in (layer, again)]
    if shapes[0] != shapes[1]:
        return "its tensors"
    for name, part in again.named_modules():
        other = layer.get_submodule(name)
        for key, value in vars(part).items():
            if not key.startswith("_") and getattr(other, key, None) != value:
                return str(key)
    return ""


def _named_tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from layer.named_parameters(remove_duplicate=False)
    yield from layer.named_buffers(remove_duplicate=False)


def _tensor_name(graph_module: fx.GraphModule, target: str) -> str:
    owner, _, leaf = target.rpartition(".")
    module = graph_module.get_submodule(owner)
    if leaf in module._parameters or leaf in module._buffers:
        return target
    raise ValueError("it reads what is neither a parameter nor a buffer")


def _insert(module: fx.GraphModule, path: str, layer: nn.Module) -> None:
    if not _PATH.fullmatch(path):
        raise ValueError("a layer has a name that is none")
    owner, _, leaf = path.rpartition(".")
    _container(module, owner).add_module(leaf, layer)


def _container(module: nn.Module, path: str) -> nn.Module:
    """The module under ``path``, made where there is none."""
    for part in path.split(".") if path else ():
        if part not in module._modules:
            module.add_module(part, nn.Module())
        child = module._modules[part]
        assert child is not None
        module = child
    return module


def _add_tensor(module: fx.GraphModule, path: str, tensors: Mapping[str, TensorRecord]) -> None:
    if not _PATH.fullmatch(path):
        raise ValueError("a tensor has a name that is none")
    owner, _, leaf = path.rpartition(".")
    holder = _container(module, owner)
    if leaf in holder._parameters or leaf in holder._buffers:
        return
    record = tensors[path]
    tensor = torch.empty(record.shape, dtype=getattr(torch, record.dtype), device="meta")
    if record.role in ("parameter", "frozen"):
        holder.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    else:
        holder.register_buffer(leaf, tensor, persistent=record.role == "buffer")


def _rebuild_nodes(record: GraphRecord) -> fx.Graph:
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for item in record.nodes:
        target: Any = item.target
        if item.op == "call_function":
            target = function_named(target)
        elif item.op == "call_method" and target not in METHODS:
            raise ValueError(f"no graph may call the method {target[:100]!r}")
        elif item.op == "placeholder":
            _identifier(target)
        args = tuple(decode(value, nodes) for value in item.args)
        kwargs = {name: decode(value, nodes) for name, value in item.kwargs.items()}
        if target is getattr and (kwargs or len(args) != 2 or args[1] not in ATTRIBUTES):
            raise ValueError("a node reads an attribute that no graph may read")
        nodes[item.name] = graph.create_node(item.op, target, args, kwargs, name=item.name)
        if nodes[item.name].name != item.name:
            raise ValueError(f"two nodes have the name {item.name}")
    if [item.op for item in record.nodes].count("output") != 1 or item.op != "output":
        raise ValueError("it has no output at its end")
    called = {node.target for node in record.nodes if node.op == "call_module"}
    if called != record.layers.keys():
        raise ValueError("the layers are not those that it calls")
    return graph
