"""The layers of ConvNeXt blocks between their convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import Parameter

__all__ = ["GlobalResponseNorm", "LayerNorm2d", "Mlp"]

_MLP_RATIO = 4
_GRN_EPS = 1e-6


class LayerNorm2d(nn.LayerNorm):
    """Normalise each position of (N, C, H, W) over its channels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Let channels compete: scale each by its norm over all positions, relative to the others'.

    The normalisation of ConvNeXt V2 (arXiv 2301.00808), with a residual around it.
    """

    def __init__(self, channels: int, *, channels_last: bool) -> None:
        super().__init__()
        self.axes, self.channel = ((1, 2), 3) if channels_last else ((2, 3), 1)
        self.shape = (1, 1, 1, channels) if channels_last else (1, channels, 1, 1)
        self.weight = Parameter(torch.zeros(channels))
        self.bias = Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.square().sum(self.axes, keepdim=True).sqrt()
        share = norm / (norm.mean(self.channel, keepdim=True) + _GRN_EPS)
        return x + self.weight.reshape(self.shape) * (x * share) + self.bias.reshape(self.shape)


class Mlp(nn.Module):
    """Two dense layers at every position: the last axis for linear layers, C for 1x1 convs."""

    def __init__(self, dim: int, *, conv: bool, grn: bool) -> None:
        super().__init__()
        hidden = _MLP_RATIO * dim
        self.fc1 = nn.Conv2d(dim, hidden, 1) if conv else nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.grn = GlobalResponseNorm(hidden, channels_last=not conv) if grn else nn.Identity()
        self.fc2 = nn.Conv2d(hidden, dim, 1) if conv else nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.grn(self.act(self.fc1(x))))
        return y
