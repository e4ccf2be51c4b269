"""Random weights that behave like trained ones: every layer's output has unit variance.

Time does not depend on weights, but accuracy does: with default initialisation activations shrink
from layer to layer, branches vanish beside their residuals, and no quantization error shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["unit_variance"]

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_NORMALISING = (nn.BatchNorm2d, nn.LayerNorm)

LAYER_SCALE = 0.3
"""Mean of factors on residual branches and wavelet bands: about what training leaves."""


def unit_variance(
    model: nn.Module, images: Sequence[NDArray[np.float32]], *, seed: int = 0
) -> nn.Module:
    """Give ``model`` random weights under which it maps ``images`` like a trained network.

    Layer-sequential unit variance (Mishkin and Matas, arXiv 1511.06422): in the order in which
    layers run, weights are scaled until the layer's output has unit variance, and BatchNorm takes
    the statistics of what it sees. Affine parameters vary from channel to channel.

    Args:
        model: in eval mode; changed in place.
        images: float32 (1, C, H, W), all of one size.
        seed: of the weights.

    Returns:
        ``model``.
    """
    generator = torch.Generator().manual_seed(seed)
    batch = torch.from_numpy(np.concatenate(list(images)))
    hooks = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name.rpartition(".")[2] not in ("weight", "bias"):
                _vary(parameter, LAYER_SCALE, generator)
        for module in model.modules():
            if isinstance(module, _WEIGHTED):
                module.weight.normal_(generator=generator)
                if module.bias is not None:
                    module.bias.normal_(std=0.1, generator=generator)
            elif isinstance(module, _NORMALISING):
                _vary(module.weight, 1.0, generator)
                module.bias.normal_(std=0.1, generator=generator)
            elif type(module).__name__ == "ChannelScale":
                _vary(module.get_parameter("weight"), LAYER_SCALE, generator)
            if isinstance(module, (*_WEIGHTED, nn.BatchNorm2d)):
                hooks.append(module.register_forward_pre_hook(_fit))
        model(batch)
    for hook in hooks:
        hook.remove()
    return model


def _vary(parameter: Tensor, mean: float, generator: torch.Generator) -> None:
    parameter.uniform_(0.5 * mean, 1.5 * mean, generator=generator)


def _fit(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Fit a layer to its input, just before it runs."""
    x = inputs[0]
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_mean is not None
        assert module.running_var is not None
        module.running_mean.copy_(x.mean((0, 2, 3)))
        module.running_var.copy_(x.var((0, 2, 3)))
        return
    # A constant per channel, so the bias does not count towards the scale.
    linear: Callable[[Tensor], Tensor] = module.forward
    weight, bias = module.get_parameter("weight"), module._parameters["bias"]
    module._parameters["bias"] = None
    weight.div_(linear(x).std())
    module._parameters["bias"] = bias
