"""A constant added to a whole tensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Shift"]


class Shift(nn.Module):
    """Adds one number to every element.

    Between pixels in low .. high and a signed grid, it moves the middle of the range to zero.

    Args:
        offset: what is added.
        step: distance of two neighbouring values of an 8-bit image, in the units of the tensor.

    Attributes:
        offset: buffer, scalar float32.
    """

    offset: Tensor

    def __init__(self, offset: float, step: float) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("offset", torch.tensor(offset))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x`` (any shape) plus the offset."""
        return x + self.offset

    def extra_repr(self) -> str:
        return f"{float(self.offset):g}"
