"""GELU in integers: x times a sigmoid.

GELU(x) = x P(x), with P the distribution function of the standard normal, has no integer kernel in
onnxruntime; a sigmoid and a product have. Hendrycks and Gimpel ("Gaussian error linear units",
arXiv 1606.08415) give ``x sigmoid(1.702 x)`` as its approximation. Between two grids of 8 bits the
slope can be fitted to the numbers that are there: then the result is at most 1.6 steps of its grid
from GELU's, of which rounding alone is 0.5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from waveedge.nn.quantizers import quantize

__all__ = ["SigmoidGELU"]

_SLOPES = (1.55, 1.85)  # of a sigmoid that is nearest to P around 0, and on the whole line: inside
_CANDIDATES = 301


class SigmoidGELU(nn.Module):
    """Computes ``x * s`` with ``s`` = sigmoid(slope * x), rounded to a multiple of 1/255.

    The sigmoid is shifted by 128/255 while it is rounded, so that it fills the signed grid of 8
    bits: a runtime may hold it as int8 with zero point 0, or as uint8.

    Attributes:
        slope: buffer, scalar float32; see :meth:`fit`.
    """

    slope: Tensor
    step: Tensor
    middle: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slope", torch.tensor(1.702))
        self.register_buffer("step", torch.tensor(1 / 255), persistent=False)
        self.register_buffer("middle", torch.tensor(128 / 255), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns about GELU(x): float, the shape of ``x``."""
        gate = torch.sigmoid(self.slope * x) - self.middle
        return x * (quantize(gate, self.step, -128, 127) + self.middle)

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Takes the slope of least squared error to GELU over ``values``, a tensor of any shape."""
        x = values.double().reshape(-1, 1)
        slopes = torch.linspace(*_SLOPES, _CANDIDATES, dtype=torch.float64)
        errors = x * torch.sigmoid(slopes * x) - nn.functional.gelu(x)
        self.slope.copy_(slopes[errors.square().sum(dim=0).argmin()])

    def extra_repr(self) -> str:
        return f"slope={float(self.slope):.3f}"
