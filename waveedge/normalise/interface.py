"""What goes into a network and what comes out, as plain lists of tensors with names."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from waveedge.errors import InputError

__all__ = ["check_inputs", "flat_outputs", "output_names"]


def flat_outputs(output: Any) -> list[Tensor]:
    """The tensors of an output (dict, list, tuple, nested), in order; None and numbers drop out."""
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def output_names(paths: list[pytree.KeyPath]) -> list[str]:
    """Names for outputs at ``paths``: the keys of a dict; ``output``, numbered if several."""
    names = ["_".join(str(_key(entry)) for entry in path) for path in paths]
    names = [f"output_{name}" if name[:1].isdigit() else name or "output" for name in names]
    # Two paths may spell one name; the runtime needs different ones.
    return [
        name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)
    ]


def _key(entry: Any) -> Any:
    return getattr(entry, "key", getattr(entry, "idx", getattr(entry, "name", entry)))


def check_inputs(model: nn.Module) -> None:
    """Refuse a network that needs more than an image.

    Raises:
        InputError: ``forward`` has no input, or several without a default.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p for p in parameters if p.default is p.empty and p.kind not in variable]
    if len(needed) > 1 or any(p.kind not in positional for p in needed):
        names = ", ".join(parameter.name for parameter in needed)
        raise InputError(
            f"{type(model).__name__} has {len(needed)} inputs ({names}); only networks with one "
            "image input are supported",
            hint="Wrap it in a module whose forward takes the image alone.",
        )
    if not any(p.kind in positional or p.kind is p.VAR_POSITIONAL for p in parameters):
        raise InputError(
            f"{type(model).__name__} has no input",
            hint="Its forward must take an image (N, C, H, W).",
        )
