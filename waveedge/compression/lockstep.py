"""A network and its float form, run side by side over a batch, node by node.

So that each layer can be fitted to what it should give, for the inputs that the layers before it,
fitted already, really give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.graph_queries import layer_of
from waveedge.compression.reparameterize import Shapes
from waveedge.normalise.capture import float_dtype

__all__ = ["Step", "correct_mean", "elements", "in_lockstep"]

_MEMORY = 1 << 29
"""Bytes that the values alive at one time may take."""


@dataclass
class Step:
    """A node that is about to run.

    Attributes:
        node: it.
        layer: the module that it calls, if any.
        inputs, options: what it is given.
        wanted: what it should yield.
        found: what it yields, where whoever walks has run it.
        share: (steps done, steps in all).
    """

    node: fx.Node
    layer: nn.Module | None
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    wanted: Any
    share: tuple[int, int]
    found: Any = None


def in_lockstep(
    graph: fx.GraphModule, reference: fx.GraphModule, images: Sequence[NDArray[np.float32]]
) -> Iterator[Step]:
    """Walk both graphs in execution order; layers may be changed when it is their turn.

    Args:
        graph: a network whose nodes are those of ``reference`` and quantizers.
        reference: the same network as it should be.
        images: (1, C, H, W); of those of the first one's size, as many are used as memory allows.
    """
    nodes = list(graph.graph.nodes)
    last_use = {value: node for node in nodes for value in node.all_input_nodes}
    dying: dict[fx.Node, list[fx.Node]] = {}
    for value, node in last_use.items():
        dying.setdefault(node, []).append(value)
    batch = torch.from_numpy(np.concatenate(_that_fit(graph, images, dying)))
    batch = batch.to(float_dtype(graph))
    interpreter, twin = fx.Interpreter(graph), fx.Interpreter(reference)
    found: dict[fx.Node, Any] = {}
    wanted: dict[fx.Node, Any] = {}
    for position, node in enumerate(nodes):
        if node.op == "output":
            break
        if node.op == "placeholder":
            found[node] = wanted[node] = batch
            continue
        inputs, options = _arguments(node, found)
        float_inputs, float_options = _arguments(node, wanted)
        if _is_extra(node, reference):
            wanted[node] = float_inputs[0]
        else:
            wanted[node] = getattr(twin, node.op)(node.target, float_inputs, float_options)
        share = (position + 1, len(nodes))
        step = Step(node, layer_of(graph, node), inputs, options, wanted[node], share)
        yield step
        if step.found is None:
            step.found = getattr(interpreter, node.op)(node.target, inputs, options)
        found[node] = step.found
        for value in dying.get(node, ()):
            del found[value], wanted[value]


def correct_mean(step: Step) -> None:
    """Run a layer, and take the mean error of every channel out with its bias."""
    layer = step.layer
    assert layer is not None
    step.found = layer(*step.inputs, **step.options)
    bias = layer.bias
    if isinstance(bias, Tensor):
        channel = -1 if isinstance(layer, nn.Linear) else 1
        error = (step.wanted - step.found).movedim(channel, -1)
        correction = error.mean(dim=list(range(error.dim() - 1)))
        bias.add_(correction)
        step.found.movedim(channel, -1).add_(correction)


def _is_extra(node: fx.Node, reference: fx.GraphModule) -> bool:
    """Whether a node is a quantizer, which the float network does not have."""
    return node.op == "call_module" and not _has(reference, str(node.target))


def _has(graph: fx.GraphModule, name: str) -> bool:
    try:
        graph.get_submodule(name)
    except AttributeError:
        return False
    return True


def _arguments(node: fx.Node, values: dict[fx.Node, Any]) -> tuple[Any, Any]:
    return fx.map_arg(node.args, values.__getitem__), fx.map_arg(node.kwargs, values.__getitem__)


def _that_fit(
    graph: fx.GraphModule,
    images: Sequence[NDArray[np.float32]],
    dying: dict[fx.Node, list[fx.Node]],
) -> Sequence[NDArray[np.float32]]:
    """The first so many images whose values fit memory together, at least one."""
    shapes = Shapes(graph, images[0].shape)
    alive = most = 0
    for node in graph.graph.nodes:
        alive += elements(shapes[node])
        most = max(most, alive)
        alive -= sum(elements(shapes[value]) for value in dying.get(node, ()))
    alike = [image for image in images if image.shape == images[0].shape]
    # Two networks, of 4-byte numbers.
    return alike[: max(1, _MEMORY // (8 * most))]


def elements(shape: Any) -> int:
    """Numbers in a value of that shape, as ``Shapes`` tells it; 0 of what is no tensor."""
    if isinstance(shape, tuple):
        return int(np.prod(shape))
    return sum(map(elements, shape)) if isinstance(shape, list) else 0
