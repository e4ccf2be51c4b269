"""What goes into a network and what comes out, as plain lists of tensors with names."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from waveedge.errors import InputError, reason

__all__ = ["check_inputs", "check_outputs", "failure", "flat_outputs", "output_names"]


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
        InputError: ``forward`` has no input, or several without a default; or torch quantized the
            network already, or compiled it to TorchScript.
    """
    scripted = next(
        (name for name, part in model.named_modules() if isinstance(part, torch.jit.ScriptModule)),
        None,
    )
    if scripted is not None:
        raise InputError(
            f"{scripted or 'this network'} is TorchScript, whose code cannot be followed",
            hint="Give the module in Python that torch.jit.script or torch.jit.trace was given; "
            "its weights can be loaded from the scripted one's state_dict().",
        )
    quantized = next((item for item in model.named_modules() if _is_quantized(item[1])), None)
    if quantized is not None:
        name, layer = quantized
        raise InputError(
            f"torch quantized this network already, first at {name or 'its whole'} "
            f"({type(layer).__name__})",
            hint="Give the network in floating point, as it was before torch.ao.quantization "
            "prepared or converted it.",
        )
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


def _is_quantized(module: nn.Module) -> bool:
    """Whether torch.ao.quantization made a module: a layer, an observer or a fake quantizer."""
    home, kind = type(module).__module__, type(module).__name__
    if not home.startswith(("torch.ao.", "torch.nn.quantized", "torch.nn.qat")):
        return False
    return ".quantized" in home or ".qat" in home or kind.endswith(("FakeQuantize", "Observer"))


def check_outputs(outputs: list[Tensor]) -> None:
    """Refuse a network that returns no tensor.

    Raises:
        InputError: there is none.
    """
    if not outputs:
        raise InputError(
            "the network returns no tensor",
            hint="Return a tensor, or a list, tuple or dict of tensors, from its forward.",
        )


_OTHER_RANKS = (nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose3d)


def failure(model: nn.Module, where: str, error: Exception) -> InputError:
    """What to say where ``model`` raised ``error`` on an image.

    Args:
        where: the image, in words, with its shape.
    """
    layers = model.named_modules()
    name, layer = next(
        ((name, layer) for name, layer in layers if isinstance(layer, _OTHER_RANKS)), ("", None)
    )
    if layer is not None:
        kind = type(layer).__name__
        return InputError(
            f"{kind} is not supported on inputs that are no images: the network, whose layer "
            f"{name or kind} is a {kind}, fails on {where}: {reason(error)}",
            hint="waveedge takes networks of images (N, C, H, W), not of volumes, videos or "
            "signals. If it is one, try another --input-size, or --set channels=C.",
        )
    return InputError(
        f"the network fails on {where}: {reason(error)}",
        hint="Try another --input-size, or --set channels=C, or run the network in torch on such "
        "an image first.",
    )
