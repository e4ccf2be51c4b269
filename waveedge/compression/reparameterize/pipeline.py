"""All exact rewrites, in the order in which they are applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import fx, nn

from waveedge.compression.costs import CPU, CostProfile
from waveedge.duplicates import duplicate
from waveedge.errors import RecipeError
from waveedge.errors import reason as because
from waveedge.models.channels import input_channels
from waveedge.normalise import normalise, preserve
from waveedge.reference import FLOAT_ERROR, Reference

from .batchnorm import BatchNorm
from .chains import Chains
from .haar import Haar
from .phases import Lower
from .pointwise import Pointwise
from .polyphase import Polyphase
from .pyramid import Pyramid
from .residual import Residual
from .rewrite import Applied, Rewrite, Shapes
from .scales import Scales
from .transposed import Transposed
from .wtconv import WTConv

__all__ = ["CONTRACTING", "REWRITES", "Judge", "LeftOut", "fault_of", "judged", "reparameterize"]

REWRITES: tuple[type[Rewrite], ...] = (
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

CONTRACTING = tuple(rewrite.name for rewrite in REWRITES[REWRITES.index(Residual) :])
"""Those that make one layer of several: before them, every layer is still the network's own."""


@dataclass(frozen=True)
class LeftOut:
    """A rewrite that does not hold on a network, and so was not applied.

    Attributes:
        rewrite: its name.
        where: the layer on which it did not hold; empty where no single layer is to blame.
        reason: what went wrong.
    """

    rewrite: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"left out: {self.rewrite}{self.where and f', on {self.where}'}: {self.reason}"


Judge = Callable[[fx.GraphModule], float]
"""Yields the error of a form of the network, relative to the network itself."""


def reparameterize(
    model: nn.Module,
    input_size: tuple[int, int],
    *,
    cost: CostProfile = CPU,
    skip: Collection[str] = (),
    judge: Judge | None = None,
) -> fx.GraphModule:
    """The same network in a form that computes the same numbers with less work.

    Args:
        model: a network in float, or its normal form; it is copied, not changed.
        input_size: (height, width) in pixels of the images it will see. The batch stays free.
        cost: prices of the device that it shall run on.
        skip: names of rewrites to leave out, and qualified names of modules to keep as they are.
        judge: compares a form with the user's network; on a random image where None. A rewrite
            that changes the output by more than ``FLOAT_ERROR`` is left out.

    Returns:
        A graph of plain layers in eval mode. Its ``applied`` lists every change as ``Applied``,
        its ``left_out`` every rewrite that did not hold as ``LeftOut``; its ``spec`` is the
        model's.

    Raises:
        ExportError: the network cannot be brought into the normal form.
        InputError: it does not take images of this size.
        RecipeError: ``skip`` names neither a rewrite nor a module.
    """
    channels = _image_channels(model)
    graph_module = _normal_form(model, (channels, *input_size))
    known = {rewrite.name for rewrite in REWRITES} | dict(graph_module.named_modules()).keys()
    for name in sorted(set(skip) - known):
        raise RecipeError(
            f"skip: {name!r} is neither a rewrite nor a module of this network",
            hint="Rewrites: " + ", ".join(rewrite.name for rewrite in REWRITES) + ".",
        )
    shapes = Shapes(graph_module, (1, channels, *input_size))
    judge = judge or _random_judge(model, shapes.image)
    applied: list[Applied] = []
    left_out: list[LeftOut] = []
    before: fx.GraphModule | None = None
    for rewrite in REWRITES:
        if rewrite.name in skip:
            continue
        make = partial(rewrite, prices=cost)
        before = before or duplicate(graph_module)
        graph_module, shapes, done, failed = _apply(make, graph_module, before, shapes, skip, judge)
        applied += done
        left_out += failed
        if done or failed:
            before = None  # most rewrites find nothing to do, and need no new copy
    preserve(graph_module, applied=tuple(applied), left_out=tuple(left_out))
    return graph_module


def _normal_form(model: nn.Module, shape: tuple[int, int, int]) -> fx.GraphModule:
    if isinstance(model, fx.GraphModule) and hasattr(model, "output_names"):
        return duplicate(model)
    return normalise(model, shape)


def _random_judge(model: nn.Module, shape: tuple[int, ...]) -> Judge:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return Reference(model, [image.numpy()]).error


def _apply(
    make: Callable[..., Rewrite],
    graph_module: fx.GraphModule,
    before: fx.GraphModule,
    shapes: Shapes,
    keep: Collection[str],
    judge: Judge,
) -> tuple[fx.GraphModule, Shapes, list[Applied], list[LeftOut]]:
    """Apply one rewrite where it holds: everywhere, or everywhere but on one layer, or nowhere.

    ``graph_module`` is rewritten; ``before`` is a copy of it, in case that does not hold.
    """
    done, reason = _try(make, graph_module, shapes, keep, judge)
    if not reason:
        return graph_module, shapes, done, []
    for where in dict.fromkeys(item.where for item in done):
        other = duplicate(before)
        other_shapes = Shapes(other, shapes.image)
        others, again = _try(make, other, other_shapes, {*keep, where}, judge)
        if not again:
            return other, other_shapes, others, [LeftOut(make().name, where, reason)]
    return before, Shapes(before, shapes.image), [], [LeftOut(make().name, "", reason)]


def _try(
    make: Callable[..., Rewrite],
    graph_module: fx.GraphModule,
    shapes: Shapes,
    keep: Collection[str],
    judge: Judge,
) -> tuple[list[Applied], str]:
    """Rewrite in place; what was done, and why it does not hold ('' where it does)."""
    done = list[Applied]()
    try:
        done = make(keep=frozenset(keep)).apply(graph_module, shapes)
        if not done:
            return done, ""
        _settle(graph_module, shapes)
        error = judge(graph_module)
    except Exception as failure:  # a fault of the rewrite: the network ships without it
        return done, because(failure)
    return done, fault_of(error)


def fault_of(error: float) -> str:
    """What is wrong with a form of this error; '' where it computes the network's outputs."""
    if error <= FLOAT_ERROR:
        return ""
    if error == math.inf:
        return "changed the number or shape of outputs, or made them infinite"
    return f"changed the output by {error:.1e}"


def judged(
    name: str,
    graph_module: fx.GraphModule,
    change: Callable[[fx.GraphModule], Sequence[str] | None],
    judge: Judge,
) -> fx.GraphModule:
    """A network after one more rewrite, if it then computes the same; else as it is.

    Args:
        name: of the rewrite, for ``applied`` and ``left_out``.
        graph_module: what :func:`reparameterize` returned; it is copied, not changed.
        change: rewrites a graph in place, and may name the layers that it changed.
        judge: compares a form with the user's network.
    """
    result = duplicate(graph_module)
    try:
        done = change(result) or ()
        reason = fault_of(judge(result))
    except Exception as failure:  # a fault of the rewrite: the network ships without it
        done, reason = (), because(failure)
    if reason:
        left_out: tuple[LeftOut, ...] = graph_module.left_out  # type: ignore[assignment]
        preserve(graph_module, left_out=(*left_out, LeftOut(name, "", reason)))
        return graph_module
    applied: tuple[Applied, ...] = result.applied  # type: ignore[assignment]
    preserve(result, applied=(*applied, *(Applied(name, where, 0, 0) for where in done)))
    return result


def _settle(graph_module: fx.GraphModule, shapes: Shapes) -> None:
    """Remove what nothing uses any more, and find the shapes of what is new."""
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    _drop_unread(graph_module)
    _lay_out(graph_module)
    graph_module.graph.lint()
    graph_module.recompile()
    shapes.refresh(graph_module)


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


def _lay_out(graph_module: fx.GraphModule) -> None:
    """Give kernels cut out of others memory of their own, row by row.

    Converters have been seen (litert-torch 0.10) to read a tensor's memory and not its strides.
    """
    for tensor in (*graph_module.parameters(), *graph_module.buffers()):
        tensor.data = tensor.data.contiguous()


def _image_channels(model: nn.Module) -> int:
    spec = getattr(model, "spec", None)
    if spec is not None:
        return int(spec.channels)
    return getattr(model, "input_channels", None) or input_channels(model)
