"""Fake quantization with a learnable step.

A quantizer replaces x by the nearest point of a uniform grid, ``scale * q`` with an integer
``qmin <= q <= qmax``:

    q = clamp(round(x / scale), qmin, qmax)        (halves round to the even neighbour)

Rounding has no useful gradient, so it passes gradients straight through. The gradient that
reaches ``scale`` is then that of LSQ (Esser et al., "Learned step size quantization", ICLR 2020):
round(x / s) - x / s inside the grid, qmin or qmax outside, times 1 / sqrt(elements * q), q the
larger of qmax and -qmin - 1.

0 is on every grid. A tensor whose numbers are mostly of one sign has a zero point that makes room
for them. Where a runtime takes none (TensorRT), what is behind a grid makes up for it
(``export/passes/offsets.py``).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from waveedge.errors import RecipeError

__all__ = [
    "ActivationQuantizer",
    "WeightQuantizer",
    "activation_quantizer",
    "weight_quantizer",
]

FLOAT_BITS = 32
"""The number of bits that means "not quantized"."""


class ActivationQuantizer(nn.Module):
    """Quantizes a tensor with one scale for all its elements.

    Args:
        bits: 2 to 8.
        zero_point: which of the integers -2^(bits-1) .. 2^(bits-1)-1 stands for 0, as in ONNX: the
            grid is ``qmin = -2^(bits-1) - zero_point`` to ``qmax = 2^(bits-1)-1 - zero_point``.
        zero_is_open: calibration may choose another zero point; else it stays.

    Attributes:
        scale: parameter, scalar float32: the step of the grid. Positive; set by calibration.
        enabled: False passes the input through, for observing what would be quantized.
        pixel_step: where the tensor is an 8-bit image, shifted so that its pixels are -128 .. 127
            times a step, or is added to copies of such pixels, that step; None elsewhere.
            Calibration takes it for the scale.

    Raises:
        RecipeError: bits or the zero point out of range.
    """

    def __init__(self, bits: int, *, zero_point: int = 0, zero_is_open: bool = True) -> None:
        super().__init__()
        self.bits = _checked_bits(bits)
        self.zero_point = zero_point
        self.zero_is_open = zero_is_open
        self.enabled = True
        self.pixel_step: float | None = None
        self.scale = nn.Parameter(torch.tensor(1.0))

    @property
    def zero_point(self) -> int:
        """Which of the integers of ``bits`` bits stands for 0."""
        return self._zero_point

    @zero_point.setter
    def zero_point(self, zero_point: int) -> None:
        half = 1 << self.bits - 1
        if isinstance(zero_point, bool) or not isinstance(zero_point, int):
            raise RecipeError(f"a zero point is an integer, not {zero_point!r}")
        if not -half <= zero_point < half:
            raise RecipeError(
                f"{zero_point} is not an integer of {self.bits} bits, as a zero point must be",
                hint=f"Use {-half} to {half - 1}; {-half} makes a grid without negative numbers.",
            )
        self._zero_point = zero_point

    @property
    def qmin(self) -> int:
        """Smallest integer of the grid."""
        return -(1 << self.bits - 1) - self.zero_point

    @property
    def qmax(self) -> int:
        """Largest integer of the grid."""
        return (1 << self.bits - 1) - 1 - self.zero_point

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x`` (any shape) on the grid, in its own dtype."""
        if not self.enabled:
            return x
        return quantize(x, self.scale, self.qmin, self.qmax)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, zero_point={self.zero_point}"


class WeightQuantizer(nn.Module):
    """Quantizes a weight tensor with one scale per output channel.

    The grid is -(2^(bits-1)-1) .. 2^(bits-1)-1: without the extra negative number, so that a
    product of two 8-bit numbers never overflows its int16 half.

    Args:
        bits: 2 to 8.
        channels: size of the weight along ``axis``.
        axis: dimension of the output channels: 0 for Conv2d and Linear, 1 for ConvTranspose2d.

    Attributes:
        scale: parameter, (channels,) float32.
        enabled: False passes the weight through.

    Raises:
        RecipeError: bits out of range.
    """

    def __init__(self, bits: int, channels: int, axis: int = 0) -> None:
        super().__init__()
        self.bits = _checked_bits(bits)
        self.axis = axis
        self.enabled = True
        self.scale = nn.Parameter(torch.ones(channels))

    @property
    def qmin(self) -> int:
        """Smallest integer of the grid."""
        return -self.qmax

    @property
    def qmax(self) -> int:
        """Largest integer of the grid."""
        return (1 << self.bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the weight on the grid, same shape and dtype."""
        if not self.enabled:
            return weight
        return quantize(weight, self.scale, self.qmin, self.qmax, self.axis)

    def integers(self, weight: Tensor) -> Tensor:
        """Returns the grid integers of the weight: int8, same shape."""
        with torch.no_grad():
            q = torch.round(weight / _along(self.scale, weight, self.axis))
            return q.clamp(self.qmin, self.qmax).to(torch.int8)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Sets every channel's scale for this weight.

        With 8 bits the largest weight becomes the end of the grid. Below, cutting off the largest
        pays: of 80 candidates the scale with the least squared error is taken. A weight without
        data (on the meta device) leaves the scales as they are.
        """
        if weight.is_meta:
            return
        rows = weight.detach().movedim(self.axis, 0).flatten(1)
        limit = rows.abs().amax(dim=1)
        # A channel of zeros is exact on any grid.
        limit = torch.where(limit > 0, limit, torch.ones_like(limit))
        best = limit / self.qmax
        if self.bits < 8:
            best_error = torch.full_like(best, math.inf)
            for fraction in torch.linspace(1.0, 0.2, 80).tolist():
                scale = limit * (fraction / self.qmax)
                error = (quantize(rows, scale, self.qmin, self.qmax, 0) - rows).square().sum(dim=1)
                best = torch.where(error < best_error, scale, best)
                best_error = torch.minimum(error, best_error)
        self.scale.copy_(best)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, channels={self.scale.numel()}, axis={self.axis}"


def activation_quantizer(bits: int, *, zero_is_open: bool = True) -> nn.Module:
    """An :class:`ActivationQuantizer`, or the identity for 32 bits."""
    if bits == FLOAT_BITS:
        return nn.Identity()
    return ActivationQuantizer(bits, zero_is_open=zero_is_open)


def weight_quantizer(bits: int, channels: int, axis: int = 0) -> nn.Module:
    """A :class:`WeightQuantizer`, or the identity for 32 bits."""
    return nn.Identity() if bits == FLOAT_BITS else WeightQuantizer(bits, channels, axis)


def quantize(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int = -1) -> Tensor:
    """Fake quantization with straight-through gradients; see the module's head.

    Args:
        x: any floating-point tensor.
        scale: the steps: a scalar, or one value per index of dimension ``axis``.
        qmin: smallest integer of the grid.
        qmax: largest integer of the grid.
        axis: dimension that has a scale each; -1 for one scale in all.
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return torch.ops.waveedge.fake_quantize(x, scale, qmin, qmax, axis)  # type: ignore[no-any-return]
    if x.is_meta:  # only the shape counts, which torch would find in many slow steps
        return torch.empty_like(x)
    # A learnt scale must not reach zero: nothing would come back from there.
    step = _along(scale.clamp(min=torch.finfo(scale.dtype).tiny), x, axis).to(x.dtype)
    elements = max(1, x.numel() // scale.numel())
    result: Tensor = _Quantize.apply(x, step, qmin, qmax, elements)  # type: ignore[no-untyped-call]
    return result


class _Quantize(torch.autograd.Function):
    """``clamp(round(x / step), qmin, qmax) * step`` with the gradients of the module's head."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, qmin: int, qmax: int, elements: int) -> Tensor:
        points = (x / step).round_().clamp_(qmin, qmax)
        result = points * step
        ctx.save_for_backward(x, step)
        ctx.grid = qmin, qmax, elements
        return result

    @staticmethod
    def backward(
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (gradient,) = gradients
        x, step = ctx.saved_tensors
        qmin, qmax, elements = ctx.grid
        exact = x / step
        point = exact.clamp(qmin, qmax)
        # Products with 0 and 1: choosing element by element takes four times as long.
        inside = (exact == point).to(x.dtype)
        for_x = gradient * inside
        if not ctx.needs_input_grad[1]:
            return for_x, None, None, None, None
        slope = point.round().sub_(point.mul_(inside))  # round(x / step) - x / step, or the end
        for_step = slope.mul_(gradient).sum_to_size(step.shape) / math.sqrt(
            elements * max(qmax, -qmin - 1)
        )
        return for_x, for_step, None, None, None


@torch.library.custom_op("waveedge::fake_quantize", mutates_args=())
def fake_quantize(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int) -> Tensor:
    """:func:`quantize` as one operator, so that an exporter finds it whole in the graph."""
    step = _along(scale, x, axis).to(x.dtype)
    return torch.clamp(torch.round(x / step), qmin, qmax) * step


@fake_quantize.register_fake
def _(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int) -> Tensor:
    return torch.empty_like(x)


def with_gradient_of(value: Tensor, source: Tensor) -> Tensor:
    """``value`` to the last bit, differentiated as if it were ``source``."""
    return value.detach() + (source - source.detach())


def _along(scale: Tensor, x: Tensor, axis: int) -> Tensor:
    """The scale in a shape that broadcasts along ``axis`` of ``x``."""
    if axis < 0:
        return scale
    return scale.reshape([-1 if dim == axis else 1 for dim in range(x.dim())])


def _checked_bits(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise RecipeError(
            f"cannot quantize to {bits} bits",
            hint=f"Use 2 to 8 bits, or {FLOAT_BITS} for no quantization.",
        )
    return bits
