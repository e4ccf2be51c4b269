"""Layers of torch.nn whose weight passes through a :class:`~waveedge.nn.WeightQuantizer`.

Constructors and parameter names are those of the torch layers, plus ``weight_quantizer``. Only the
weight is quantized here: activations are quantized by separate modules between the layers.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.nn.quantizers import WeightQuantizer, weight_quantizer

__all__ = ["QuantizedConv2d", "QuantizedConvTranspose2d", "QuantizedLinear"]

_Layer = nn.Conv2d | nn.Linear | nn.ConvTranspose2d
_Quantized = TypeVar("_Quantized", "QuantizedConv2d", "QuantizedLinear", "QuantizedConvTranspose2d")


class QuantizedConv2d(nn.Conv2d):
    """``nn.Conv2d`` with a quantized weight, one scale per output channel.

    Args:
        weight_bits: 2 to 8, or 32 for a float weight. The other arguments are ``nn.Conv2d``'s.
    """

    def __init__(self, *args: Any, weight_bits: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight_bits = weight_bits
        self.weight_quantizer = weight_quantizer(weight_bits, self.out_channels)

    @classmethod
    def from_float(cls, module: nn.Conv2d, weight_bits: int = 8) -> QuantizedConv2d:
        """A quantized copy of a convolution, its scales fitted to the weight."""
        new = cls(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            groups=module.groups,
            bias=module.bias is not None,
            padding_mode=module.padding_mode,
            weight_bits=weight_bits,
        )
        return _copy_parameters(module, new)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves ``x`` (N, C, H, W) with the quantized weight."""
        y: Tensor = self._conv_forward(x, self.weight_quantizer(self.weight), self.bias)
        return y


class QuantizedLinear(nn.Linear):
    """``nn.Linear`` with a quantized weight, one scale per output feature.

    Args:
        weight_bits: 2 to 8, or 32 for a float weight. The other arguments are ``nn.Linear``'s.
    """

    def __init__(self, *args: Any, weight_bits: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight_bits = weight_bits
        self.weight_quantizer = weight_quantizer(weight_bits, self.out_features)

    @classmethod
    def from_float(cls, module: nn.Linear, weight_bits: int = 8) -> QuantizedLinear:
        """A quantized copy of a linear layer, its scales fitted to the weight."""
        new = cls(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            weight_bits=weight_bits,
        )
        return _copy_parameters(module, new)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer to ``x`` (..., in_features) with the quantized weight."""
        return F.linear(x, self.weight_quantizer(self.weight), self.bias)


class QuantizedConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with a quantized weight, one scale per output channel of a group.

    Args:
        weight_bits: 2 to 8, or 32 for a float weight. The other arguments are
            ``nn.ConvTranspose2d``'s.
    """

    def __init__(self, *args: Any, weight_bits: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight_bits = weight_bits
        self.weight_quantizer = weight_quantizer(
            weight_bits, self.out_channels // self.groups, axis=1
        )

    @classmethod
    def from_float(
        cls, module: nn.ConvTranspose2d, weight_bits: int = 8
    ) -> QuantizedConvTranspose2d:
        """A quantized copy of a transposed convolution, its scales fitted to the weight."""
        new = cls(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            stride=module.stride,
            padding=module.padding,
            output_padding=module.output_padding,
            groups=module.groups,
            bias=module.bias is not None,
            dilation=module.dilation,
            weight_bits=weight_bits,
        )
        return _copy_parameters(module, new)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolves ``x`` (N, C, H, W) with the quantized weight, transposed."""
        output_padding = self._output_padding(
            x,
            output_size,
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.kernel_size,  # type: ignore[arg-type]
            2,
            self.dilation,  # type: ignore[arg-type]
        )
        return F.conv_transpose2d(
            x,
            self.weight_quantizer(self.weight),
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            output_padding,
            self.groups,
            self.dilation,
        )


def _copy_parameters(source: _Layer, target: _Quantized) -> _Quantized:
    """Copies weight, bias, dtype, device and mode, and fits the weight quantizer."""
    target.to(device=source.weight.device, dtype=source.weight.dtype)
    target.weight.data.copy_(source.weight.data)
    if source.bias is not None and target.bias is not None:
        target.bias.data.copy_(source.bias.data)
    if isinstance(target.weight_quantizer, WeightQuantizer):
        target.weight_quantizer.fit(target.weight)
    target.train(source.training)
    return target
