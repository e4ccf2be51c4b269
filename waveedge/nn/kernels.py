"""One wavelet level as a single convolution with full two-dimensional kernels.

The published WTConv and WCC layers keep these kernels as parameters of their state dict. They pad
every level by ``taps / 2 - 1`` zeros, so that each axis halves exactly: the same as
:class:`~waveedge.nn.DWT2d` for Haar, and for longer wavelets a transform whose inverse is exact
only away from the border.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from waveedge.nn.dwt import filter_bank, outer

__all__ = ["analyse", "synthesise", "wavelet_kernels"]


def wavelet_kernels(wavelet: str, channels: int) -> tuple[Tensor, Tensor]:
    """Analysis and synthesis kernels of ``channels`` channels, each (4 channels, 1, taps, taps).

    Band order as in :class:`~waveedge.nn.DWT2d`. Raises RecipeError for an unknown wavelet.
    """
    bank = filter_bank(wavelet)
    analysis = torch.tensor([bank.analysis_low[::-1], bank.analysis_high[::-1]])
    synthesis = torch.tensor([bank.synthesis_low, bank.synthesis_high])
    return outer(analysis).repeat(channels, 1, 1, 1), outer(synthesis).repeat(channels, 1, 1, 1)


def analyse(x: Tensor, kernels: Tensor) -> Tensor:
    """Transforms (N, C, H, W), H and W even, into bands (N, C, 4, H / 2, W / 2)."""
    channels, crop = x.shape[1], kernels.shape[-1] // 2 - 1
    bands = F.conv2d(x, kernels, stride=2, padding=crop, groups=channels)
    return bands.reshape(x.shape[0], channels, 4, *bands.shape[2:])


def synthesise(bands: Tensor, kernels: Tensor) -> Tensor:
    """Rebuilds (N, C, 2 h, 2 w) from bands (N, C, 4, h, w)."""
    channels, crop = bands.shape[1], kernels.shape[-1] // 2 - 1
    return F.conv_transpose2d(bands.flatten(1, 2), kernels, stride=2, padding=crop, groups=channels)
