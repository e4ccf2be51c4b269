"""The WCC layer exactly as its authors published it, for checkpoints that were trained with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.errors import RecipeError
from waveedge.nn.coefficients import pack, transform_multiply_adds, unpack
from waveedge.nn.kernels import analyse, synthesise, wavelet_kernels
from waveedge.nn.quantizers import with_gradient_of

__all__ = ["PublishedWCC"]


class PublishedWCC(nn.Module):
    """The published wavelet-compressed 1x1 convolution; its state dicts load with ``strict=True``.

    It differs from :class:`~waveedge.nn.WaveletCompressedConv2d` in three ways:

    * the bias is added to the coefficients that are kept, so it reaches the image through the
      inverse transform and is no bias of a 1x1 convolution even at ratio 1;
    * the weight is normalised to mean 0 and standard deviation 1 before it is quantized;
    * both grids are -(2^(bits-1)-1) .. 2^(bits-1)-1 steps of a learnt limit (``w_alpha``,
      ``a_alpha``), one per tensor.

    Sizes that 2^levels does not divide are padded with zeros at the bottom and right, where the
    authors' code mixes up the axes and fails.

    Args:
        in_channels: channels I of the input.
        out_channels: channels O of the output.
        bias: whether there is a bias.
        levels: wavelet levels.
        ratio: share of the positions that is kept, in (0, 1].
        weight_bits: 2 or more.
        activation_bits: 2 or more.
        wavelet: any discrete PyWavelets wavelet; exact at the border for Haar only.

    Raises:
        RecipeError: a value out of range, or an unknown wavelet.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = False,
        levels: int = 3,
        ratio: float = 0.25,
        weight_bits: int = 8,
        activation_bits: int = 8,
        wavelet: str = "db1",
    ) -> None:
        super().__init__()
        if levels < 1 or not 0 < ratio <= 1 or min(weight_bits, activation_bits) < 2:
            raise RecipeError(
                f"PublishedWCC: levels={levels}, ratio={ratio}, weight_bits={weight_bits}, "
                f"activation_bits={activation_bits}",
                hint="Use 1 or more levels, a ratio in (0, 1], and 2 or more bits.",
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.levels = levels
        self.ratio = ratio
        self.wavelet = wavelet
        conv = nn.Conv1d(in_channels, out_channels, 1, bias=bias)
        self.weight, self.bias = conv.weight, conv.bias
        analysis, _ = wavelet_kernels(wavelet, in_channels)
        _, synthesis = wavelet_kernels(wavelet, out_channels)
        self.wt_filters = nn.Parameter(analysis, requires_grad=False)
        self.iwt_filters = nn.Parameter(synthesis, requires_grad=False)
        self.weight_quant = _WeightLimit(weight_bits)
        self.act_quant = _ActivationLimit(activation_bits)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, I, H, W) to (N, O, H, W)."""
        height, width = x.shape[-2:]
        multiple = 2**self.levels
        low = F.pad(x, (0, -width % multiple, 0, -height % multiple))
        details = []
        for _ in range(self.levels):
            bands = analyse(low, self.wt_filters)
            low = bands[:, :, 0]
            details.append(bands[:, :, 1:])

        coefficients = pack(low, details)
        k = max(1, int(coefficients.shape[2] * self.ratio))
        indices = coefficients.square().sum(dim=1, keepdim=True).topk(k, dim=2).indices
        kept = coefficients.gather(2, indices.expand(-1, self.in_channels, -1))
        kept = F.conv1d(self.act_quant(kept), self.weight_quant(self.weight), self.bias)
        y = kept.new_zeros((x.shape[0], self.out_channels, coefficients.shape[2]))
        y = y.scatter(2, indices.expand(-1, self.out_channels, -1), kept)

        low, details = unpack(y, [detail.shape[-2:] for detail in details])
        for detail in reversed(details):
            bands = torch.cat([low.unsqueeze(2), detail], dim=2)
            low = synthesise(bands, self.iwt_filters)
        return low[..., :height, :width]

    def multiply_adds(self, height: int, width: int) -> tuple[int, int]:
        """Of one image of this size: in all, and the part that is wavelet transforms."""
        multiple = 2**self.levels
        height, width = (-(-extent // multiple) * multiple for extent in (height, width))
        kept = max(1, int(height * width * self.ratio))
        channels = self.in_channels + self.out_channels
        transforms = transform_multiply_adds(channels, (height, width), levels=self.levels, taps=2)
        return kept * self.in_channels * self.out_channels + transforms, transforms

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, levels={self.levels}, ratio={self.ratio}, "
            f"wavelet={self.wavelet!r}, bias={self.bias is not None}"
        )


class _WeightLimit(nn.Module):
    """Normalises a weight, clips it at ``w_alpha`` and rounds it."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.w_alpha = nn.Parameter(torch.tensor(3.0))

    def forward(self, weight: Tensor) -> Tensor:
        # The statistics count as constants for the gradient, as in the authors' code.
        mean, std = weight.detach().mean(), weight.detach().std()
        return _limited((weight - mean) / std, self.w_alpha, self.bits)


class _ActivationLimit(nn.Module):
    """Clips activations at ``a_alpha`` and rounds them."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.a_alpha = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        return _limited(x, self.a_alpha, self.bits)


def _limited(x: Tensor, alpha: Tensor, bits: int) -> Tensor:
    steps = 2 ** (bits - 1) - 1
    clipped = (x / alpha).clamp(-1, 1)
    return with_gradient_of(torch.round(clipped * steps) / steps, clipped) * alpha
