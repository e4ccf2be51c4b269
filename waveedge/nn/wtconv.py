"""WTConv: a depthwise convolution with a very large receptive field (arXiv 2407.05848)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveedge.errors import RecipeError
from waveedge.nn.kernels import analyse, synthesise, wavelet_kernels

__all__ = ["ChannelScale", "WTConv2d"]


class WTConv2d(nn.Module):
    """Sum of depthwise convolutions of the image and of its wavelet bands at every level.

    A small kernel on level l sees 2^l times as far as on the image, so the receptive field grows
    exponentially with the levels and the parameters only linearly. Parameter names and numbers are
    those of the authors' module: its state dicts load with ``strict=True``.

    Args:
        in_channels: channels C of the input.
        out_channels: must equal ``in_channels``: the layer is depthwise.
        kernel_size: side of the depthwise kernels in pixels, and in coefficients.
        stride: keeps every stride-th output pixel of each axis.
        bias: whether the convolution of the image has a bias.
        wt_levels: wavelet levels.
        wt_type: any discrete PyWavelets wavelet; the authors use Haar (``db1``).

    Raises:
        RecipeError: out_channels differs, a number is below 1, or the wavelet is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        stride: int = 1,
        bias: bool = True,
        wt_levels: int = 1,
        wt_type: str = "db1",
    ) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise RecipeError(
                f"WTConv2d is depthwise, but goes from {in_channels} to {out_channels} channels",
                hint="Give the same number twice and follow the layer with a 1x1 convolution.",
            )
        if min(kernel_size, stride, wt_levels) < 1:
            raise RecipeError(
                f"WTConv2d: kernel_size={kernel_size}, stride={stride}, wt_levels={wt_levels}",
                hint="Each must be 1 or more.",
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.wt_levels = wt_levels
        self.wt_type = wt_type

        analysis, synthesis = wavelet_kernels(wt_type, in_channels)
        self.wt_filter = nn.Parameter(analysis, requires_grad=False)
        self.iwt_filter = nn.Parameter(synthesis, requires_grad=False)
        self.base_conv = _depthwise(in_channels, kernel_size, bias=bias)
        self.base_scale = ChannelScale(in_channels, 1.0)
        self.wavelet_convs = nn.ModuleList(
            _depthwise(4 * in_channels, kernel_size, bias=False) for _ in range(wt_levels)
        )
        self.wavelet_scale = nn.ModuleList(
            ChannelScale(4 * in_channels, 0.1) for _ in range(wt_levels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        sizes, levels = [], []
        low = x
        for conv, scale in zip(self.wavelet_convs, self.wavelet_scale, strict=True):
            height, width = low.shape[-2:]
            sizes.append((height, width))
            if height % 2 or width % 2:
                low = F.pad(low, (0, width % 2, 0, height % 2))
            bands = analyse(low, self.wt_filter)
            low = bands[:, :, 0]
            levels.append(scale(conv(bands.flatten(1, 2))).reshape(bands.shape))

        deeper: Tensor | None = None
        for bands, (height, width) in zip(reversed(levels), reversed(sizes), strict=True):
            if deeper is not None:
                low = (bands[:, :, 0] + deeper).unsqueeze(2)
                bands = torch.cat([low, bands[:, :, 1:]], dim=2)
            deeper = synthesise(bands, self.iwt_filter)[..., :height, :width]

        y: Tensor = self.base_scale(self.base_conv(x)) + deeper
        return y if self.stride == 1 else y[..., :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"wt_levels={self.wt_levels}, wt_type={self.wt_type!r}"
        )


class ChannelScale(nn.Module):
    """Multiplies each channel of (N, C, H, W) by a learnt factor: ``weight`` (1, C, 1, 1)."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, channels, 1, 1), initial))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def _depthwise(channels: int, kernel_size: int, *, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size, padding="same", groups=channels, bias=bias)
