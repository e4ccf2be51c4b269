"""Bring any network into the normal form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from waveedge.errors import ExportError
from waveedge.models.adopt import adopt_published
from waveedge.normalise.capture import ATTEMPTS, Attempt, NotFollowedError, capture, float_dtype
from waveedge.normalise.copying import detached_copy
from waveedge.normalise.interface import (
    check_inputs,
    check_outputs,
    failure,
    flat_outputs,
    output_names,
)
from waveedge.normalise.lift import lift
from waveedge.normalise.program import is_tensor, returned
from waveedge.normalise.whole import kept_whole

__all__ = ["normalise", "preserve"]


_SAME = 1e-5
"""Largest error of the normal form, relative to the largest output."""


def normalise(model: nn.Module, shape: tuple[int, int, int]) -> fx.GraphModule:
    """A network as a graph of plain layers that computes the same numbers.

    Functional (no operation writes into its input), weights plain and not shared, subclasses of
    layers as the layers they are, in eval mode, with one image as input and tensors as outputs.
    Layers keep the qualified names of the user's modules.

    Args:
        model: any network; it is not changed.
        shape: (C, H, W) of the images that it will see.

    Returns:
        A graph module that yields a tensor, or a tuple where the network has several outputs, with
        the attributes ``output_names`` (one for each), ``any_size`` (whether it also was the
        network at other sizes and batches), ``adopted`` (published layers that were taken over),
        ``input_channels``, and ``spec`` if the model has one.

    Raises:
        InputError: the network takes more than an image, or fails on this one.
        ExportError: its code cannot be followed; the message names the line.
    """
    original = detached_copy(model)
    check_inputs(original)
    probes = _probes(original, shape)
    original, adoptions = _with_adopted(original, probes[0])
    refusal: ExportError | None = None
    fixed: fx.GraphModule | None = None
    for attempt in ATTEMPTS:
        try:
            graph_module = _exported(original, shape, attempt)
        except NotFollowedError as error:
            refusal = refusal or error
            continue
        held = [_agrees(graph_module, *probe) for probe in probes]
        if all(held):
            return _described(
                graph_module, model, any_size=True, adopted=adoptions, input_channels=shape[0]
            )
        if held[0] and fixed is None:
            fixed = graph_module
    if fixed is not None:
        return _described(fixed, model, any_size=False, adopted=adoptions, input_channels=shape[0])
    raise refusal or ExportError(
        f"{type(model).__name__} computes something else once it is written as a graph",
        hint="Its forward must not keep state from one image to the next.",
    )


def _exported(original: nn.Module, shape: tuple[int, int, int], attempt: Attempt) -> fx.GraphModule:
    copied = detached_copy(original)
    with kept_whole(copied) as calls:
        program = capture(copied, shape, attempt)
        graph_module = lift(program, copied, calls)
    preserve(graph_module, output_names=output_names(_tensor_paths(program)))
    return graph_module


def _described(graph_module: fx.GraphModule, model: nn.Module, **facts: object) -> fx.GraphModule:
    preserve(graph_module, spec=getattr(model, "spec", None), **facts)
    return graph_module


def _with_adopted(
    original: nn.Module, probe: tuple[Tensor, list[Tensor]]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with published layers as waveedge's own, and which, if it then is the same."""
    adopted, adoptions = adopt_published(detached_copy(original))
    if adoptions and _agrees(adopted, *probe):
        return adopted, tuple(map(str, adoptions))
    return original, ()


def _probes(original: nn.Module, shape: tuple[int, int, int]) -> list[tuple[Tensor, list[Tensor]]]:
    """Images, and what the network yields: one of ``shape``, and others if it takes them."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    probes = []
    for batch, *size in ((1, height, width), (2, 2 * height, width), (1, height, 2 * width)):
        image = torch.rand(batch, channels, *size, generator=generator)
        image = image.to(float_dtype(original))
        try:
            with torch.no_grad():
                probes.append((image, flat_outputs(original(image.clone()))))
        except Exception as error:  # whatever the network raises on a size that it does not take
            if not probes:
                where = f"an input of shape {tuple(image.shape)}"
                raise failure(original, where, error) from error
    check_outputs(probes[0][1])
    return probes


def _agrees(graph_module: nn.Module, image: Tensor, wanted: list[Tensor]) -> bool:
    """Whether the graph yields what the network does."""
    try:
        with torch.no_grad():
            found = flat_outputs(graph_module.forward(image))  # a call would print what it raises
    except Exception:  # a size that is written into the graph
        return False
    return len(found) == len(wanted) and all(
        a.shape == b.shape and _near(a, b) for a, b in zip(wanted, found, strict=True)
    )


def _near(wanted: Tensor, found: Tensor) -> bool:
    if wanted.dtype == torch.bool:
        return torch.equal(wanted, found)
    limit = _SAME * float(wanted.abs().nan_to_num().max()) if wanted.numel() else 0.0
    return torch.allclose(wanted, found, rtol=0, atol=limit, equal_nan=True)


def _tensor_paths(program: ExportedProgram) -> list[pytree.KeyPath]:
    """Where in the user's output each tensor lies."""
    values = returned(program)
    nesting = program.call_spec.out_spec
    assert nesting is not None
    whole = pytree.tree_unflatten(list(range(len(values))), nesting)
    paths = [path for path, _ in pytree.tree_flatten_with_path(whole)[0]]
    return [path for path, value in zip(paths, values, strict=True) if is_tensor(value)]


def preserve(graph_module: fx.GraphModule, **attributes: Any) -> None:
    """Set attributes that survive ``copy.deepcopy`` (plain ones of a GraphModule do not)."""
    kept = graph_module.meta.setdefault("_user_preserved_attributes", {})
    for name, value in attributes.items():
        if value is not None:
            kept[name] = value
            setattr(graph_module, name, value)
