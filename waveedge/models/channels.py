"""Find out how many channels a network's input has, by running it without data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

__all__ = ["input_channels"]

_SIZES = (224, 64, 256, 32, 28)
"""Heights and widths to try: some networks take one size alone."""


def input_channels(model: nn.Module) -> int:
    """Return the number of channels that ``model`` takes: colour is tried first.

    The convolution that was registered first need not be the one that sees the image. Where no
    size and number of channels works (a second input, operations that need data), its channels
    are the best guess.

    Args:
        model: in eval mode; it is left as it was.
    """
    guess = next(filter(None, map(_registered, model.modules())), 3)
    for channels in dict.fromkeys((3, 1, 4, guess)):
        if any(_runs(model, (1, channels, size, size)) for size in _SIZES):
            return channels
    return guess


def _registered(module: nn.Module) -> int | None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        return module.in_channels
    return module.num_features if isinstance(module, nn.BatchNorm2d) else None


def _runs(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the network takes an input of ``shape``; no number is computed."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    with _unchanged(model), torch.device("meta"), torch.no_grad():
        try:
            functional_call(model, shapes, (torch.empty(shape),))
        except Exception:
            # The code of a user runs here on what it may not be made for: it may raise anything.
            return False
    return True


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Give every module its attributes back: hooks and forward may set some."""
    before = [
        (module, dict(vars(module)), dict(module._parameters), dict(module._buffers))
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, parameters, buffers in before:
            vars(module).clear()
            vars(module).update(attributes)
            for held, values in ((module._parameters, parameters), (module._buffers, buffers)):
                held.clear()
                held.update(values)  # type: ignore[arg-type]
