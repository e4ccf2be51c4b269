"""All exact rewrites, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import fx, nn

from waveedge.errors import ExportError, RecipeError

from .batchnorm import BatchNorm
from .chains import Chains
from .cleanup import Cleanup
from .haar import Haar, Pyramid
from .phases import Lower
from .pointwise import Pointwise
from .polyphase import Polyphase
from .residual import Residual
from .rewrite import Applied, Rewrite, Shapes, called
from .scales import Scales
from .trace import preserve, trace
from .transposed import Transposed
from .wtconv import WTConv

__all__ = ["REWRITES", "reparameterize"]

REWRITES: tuple[type[Rewrite], ...] = (
    Cleanup,
    BatchNorm,
    Scales,
    Pointwise,
    Pyramid,
    Haar,
    Residual,
    Chains,
    Polyphase,
    Transposed,
    Lower,
    WTConv,
)
"""The order matters: each rewrite finds the patterns that those before it leave behind."""


def reparameterize(
    model: nn.Module, input_size: tuple[int, int], *, skip: Collection[str] = ()
) -> fx.GraphModule:
    """The same network in a form that computes the same numbers with less work.

    Args:
        model: a network in float; it is copied, not changed.
        input_size: (height, width) in pixels of the images it will see. The batch stays free.
        skip: names of rewrites to leave out, and qualified names of modules to keep as they are.

    Returns:
        A graph of plain layers in eval mode. Its ``applied`` lists every change as ``Applied``;
        its ``spec`` is the model's. The outcome depends on the structure of the model and on
        ``input_size`` alone, never on weights: two copies of one network give state dicts with
        the same keys and shapes.

    Raises:
        ExportError: the network cannot be traced, or does not take images of this size.
        RecipeError: ``skip`` names neither a rewrite nor a module.
    """
    graph_module = trace(model)
    known = {rewrite.name for rewrite in REWRITES} | dict(graph_module.named_modules()).keys()
    for name in sorted(set(skip) - known):
        raise RecipeError(
            f"skip: {name!r} is neither a rewrite nor a module of this network",
            hint="Rewrites: " + ", ".join(rewrite.name for rewrite in REWRITES) + ".",
        )
    shapes = _infer(graph_module, (1, _image_channels(graph_module), *input_size))
    output = _output(shapes)
    applied: list[Applied] = []
    for rewrite in REWRITES:
        if rewrite.name not in skip:
            done = rewrite(keep=frozenset(skip)).apply(graph_module, shapes)
            if done:
                _settle(graph_module, shapes)
                applied.extend(done)
    assert _output(Shapes(graph_module, shapes.image)) == output, "a rewrite changed the output"
    preserve(graph_module, applied=tuple(applied))
    return graph_module


def _settle(graph_module: fx.GraphModule, shapes: Shapes) -> None:
    """Remove what nothing uses any more, and find the shapes of what is new."""
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    _drop_unread(graph_module)
    graph_module.graph.lint()
    graph_module.recompile()
    shapes.refresh(graph_module)


def _output(shapes: Shapes) -> Any:
    return next(shape for node, shape in shapes.items() if node.op == "output")


def _drop_unread(graph_module: fx.GraphModule) -> None:
    """Remove parameters and buffers that no layer holds and no node reads any more."""
    read = {node.target for node in graph_module.graph.nodes if node.op == "get_attr"}
    layers = {node.target for node in graph_module.graph.nodes if node.op == "call_module"}
    tensors = [*graph_module.named_parameters(), *graph_module.named_buffers()]
    for name in [name for name, _ in tensors if name not in read]:
        owner, _, leaf = name.rpartition(".")
        parts = owner.split(".")
        if not any(".".join(parts[:end]) in layers for end in range(1, len(parts) + 1)):
            delattr(graph_module.get_submodule(owner), leaf)


def _infer(graph_module: fx.GraphModule, image: tuple[int, ...]) -> Shapes:
    try:
        return Shapes(graph_module, image)
    except Exception as error:  # whatever a layer raises on a size it does not take
        raise ExportError(
            f"the network does not run on images of {image[2]}x{image[3]} pixels: "
            f"{str(error).splitlines()[0]}",
            hint="Choose an input size that the network's strides and levels divide.",
        ) from error


def _image_channels(graph_module: fx.GraphModule) -> int:
    spec = getattr(graph_module, "spec", None)
    if spec is not None:
        return int(spec.channels)
    for node in graph_module.graph.nodes:  # the first layer that runs sees the image
        module = called(node, graph_module)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            return module.in_channels
        if isinstance(module, nn.BatchNorm2d):
            return module.num_features
    return 3
