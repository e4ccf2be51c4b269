"""A convolution that computes nothing: it copies pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from waveedge.nn.quantized import QuantizedConv2d

__all__ = ["PixelCopy"]


class PixelCopy(QuantizedConv2d):
    """Every output channel is one pixel of the kernel's window, or zero: weights of 1 and 0.

    On the grid of its input, its output is exact in integers: its weights are so from the first,
    with a step of 1. Both are buffers, which no training moves.

    Args:
        in_channels, out_channels, kernel_size, stride: ``nn.Conv2d``'s.
        step: distance of two neighbouring values of the 8-bit image that is copied, in the units
            of the tensor.

    Attributes:
        weight: buffer, (out_channels, in_channels, height, width), zeros at first.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int],
        step: float,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=False)
        self.step = step
        for module, name, value in (
            (self, "weight", torch.zeros_like(self.weight)),
            (self.weight_quantizer, "scale", torch.ones(out_channels)),
        ):
            delattr(module, name)
            module.register_buffer(name, value)

    def take(self, sources: Tensor) -> None:
        """Say which pixels to copy.

        Args:
            sources: (out_channels, 3) of integers: for every output its input channel, row and
                column in the kernel; -1 in all where it is zero.
        """
        self.weight.zero_()
        for output, (channel, row, column) in enumerate(sources.tolist()):
            if channel >= 0:
                self.weight[output, channel, row, column] = 1.0
