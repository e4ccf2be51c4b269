"""Multiply-adds of one layer, by the direct definition of what it computes.

* convolution: output elements x kernel area x input channels of a group;
* transposed convolution: input elements x kernel area x output channels of a group;
* linear layer: output elements x input features;
* wavelet transform: separable filters, 8 x taps for each channel and coefficient position of a
  level (for Haar the same as one 2x2 conv with stride 2);
* recurrent layer: steps x weights;
* WTConv: its depthwise convolutions and its transforms;
* WCC: the 1x1 convolution of the coefficients that are kept, and the transforms.

Biases, normalisation and activations count as nothing, as is usual.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from waveedge.nn import (
    DWT2d,
    IDWT2d,
    PublishedWCC,
    Selection,
    WeightQuantizer,
    WTConv2d,
)

__all__ = ["Kind", "layer_macs", "layers_of", "multiply_adds", "wtconv_macs"]

Kind = Literal[
    "conv1x1",
    "conv",
    "depthwise",
    "conv_transpose",
    "linear",
    "recurrent",
    "transform",
    "wtconv",
    "wcc",
    "product",
    "fft",
    "other",
]
"""``product``: of values that are both computed, as in attention (matrix products, convolutions
with computed weights), or with weights that no layer holds."""

_WHOLE = (
    WTConv2d,
    Selection,
    PublishedWCC,
    DWT2d,
    IDWT2d,
    _ConvNd,
    nn.Linear,
)


def layers_of(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are one layer each: those without children, and those named above."""
    if isinstance(model, WeightQuantizer):
        return
    children = list(model.named_children())
    if not children or isinstance(model, _WHOLE) or _is_foreign_transform(model):
        yield name, model
        return
    for child_name, child in children:
        yield from layers_of(child, f"{name}.{child_name}" if name else child_name)


def _is_foreign_transform(module: nn.Module) -> bool:
    """Whether it is a transform of pytorch_wavelets, or of a copy of it such as WaveMix's."""
    return type(module).__name__ in ("DWTForward", "DWTInverse") and (
        hasattr(module, "h0_col") or hasattr(module, "g0_col")
    )


def multiply_adds(
    module: nn.Module, taken: Sequence[Tensor], given: Sequence[Tensor]
) -> tuple[Kind, int, int]:
    """Count one call of a layer.

    Args:
        module: the layer.
        taken: its input tensors.
        given: its output tensors.

    Returns:
        (what it computes, its multiply-adds, the part of them that is wavelet transforms).
    """
    if isinstance(module, _ConvNd | nn.Linear):
        return _kind(module), layer_macs(module, given[0].shape), 0
    if isinstance(module, nn.RNNBase):
        weights = sum(tensor.numel() for tensor in module.parameters() if tensor.dim() == 2)
        return "recurrent", taken[0].numel() // module.input_size * weights, 0
    if isinstance(module, WTConv2d):
        return "wtconv", *wtconv_macs(module, taken[0].shape[-2:])
    if isinstance(module, Selection | PublishedWCC):
        return "wcc", *module.multiply_adds(*taken[0].shape[-2:])
    if isinstance(module, DWT2d | IDWT2d) or _is_foreign_transform(module):
        analysis = isinstance(module, DWT2d) or hasattr(module, "h0_col")
        bands = [tensor for tensor in (given if analysis else taken) if tensor.dim() == 5]
        # (N, C, 3, h, w) holds three of the four bands of C * h * w positions.
        macs = sum(8 * _taps(module) * tensor.numel() // 3 for tensor in bands)
        return "transform", macs, macs
    return "other", 0, 0


def layer_macs(module: nn.Module | None, shape: Sequence[int]) -> int:
    """Count a convolution or linear layer that yields a tensor of this shape; 0 for all others."""
    if isinstance(module, _ConvTransposeNd):
        axes = len(module.kernel_size)
        taken: list[int] = [
            (size - 1 - more - spacing * (kernel - 1) + 2 * int(border)) // stride + 1
            for size, more, spacing, kernel, border, stride in zip(
                shape[-axes:],
                module.output_padding,
                module.dilation,
                module.kernel_size,
                module.padding,
                module.stride,
                strict=True,
            )
        ]
        per_input: int = module.out_channels // module.groups * math.prod(module.kernel_size)
        return math.prod(shape[: -axes - 1]) * module.in_channels * math.prod(taken) * per_input
    if isinstance(module, _ConvNd):
        per_output: int = module.in_channels // module.groups * math.prod(module.kernel_size)
        return math.prod(shape) * per_output
    return math.prod(shape) * module.in_features if isinstance(module, nn.Linear) else 0


def _kind(module: _ConvNd | nn.Linear) -> Kind:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, _ConvTransposeNd):
        return "conv_transpose"
    if module.groups > 1:
        return "depthwise" if module.groups == module.in_channels else "conv"
    return "conv1x1" if math.prod(module.kernel_size) == 1 else "conv"


def _taps(module: nn.Module) -> int:
    if isinstance(module, DWT2d | IDWT2d):
        return int(module.filters.shape[-1])
    filters = module.h0_col if hasattr(module, "h0_col") else module.g0_col
    assert isinstance(filters, Tensor)
    return filters.numel()


def wtconv_macs(module: WTConv2d, size: Sequence[int]) -> tuple[int, int]:
    """Count a WTConv of a map of ``size`` (height, width): all of it, and its transforms."""
    channels, (height, width) = module.in_channels, size
    area, taps = module.kernel_size**2, module.wt_filter.shape[-1] ** 2
    convs, transforms = channels * height * width * area, 0
    for _ in range(module.wt_levels):
        height, width = -(-height // 2), -(-width // 2)
        coefficients = 4 * channels * height * width
        convs += coefficients * area
        transforms += 2 * coefficients * taps
    return convs + transforms, transforms
