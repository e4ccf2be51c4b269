"""WTConvNeXt: ConvNeXt with depthwise wavelet convolutions.

Paper: Finder, Amoyal, Treister and Freifeld, *Wavelet Convolutions for Large Receptive Fields*
(ECCV 2024, arXiv 2407.05848). Module names and numbers are those of the published checkpoints,
which follow timm's ConvNeXt; timm itself is not needed.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import Parameter

from waveedge.nn.wtconv import WTConv2d
from waveedge.spec import Task

__all__ = ["WTConvNeXt", "WTConvNeXtConfig"]

Four = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]

_MLP_RATIO = 4


class WTConvNeXtConfig(BaseModel):
    """Everything that distinguishes one WTConvNeXt network from another.

    Attributes:
        depths: blocks in each of the four stages.
        dims: channels of each stage.
        num_classes: classes; 0 leaves the last linear layer out and gives the pooled features.
        kernel_sizes: side of the depthwise kernels of each stage.
        wt_levels: wavelet levels of the depthwise convolutions of each stage.
        in_channels: channels of the image.
        patch_size: side and stride of the first convolution.
        layer_scale: whether each block ends with a learned factor per channel.
        conv_mlp: whether the block's two dense layers are 1x1 convs instead of linear layers.
        norm_eps: added to variances before the square root.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depths: Four
    dims: Four
    num_classes: int = Field(ge=0)
    kernel_sizes: Four = (5, 5, 5, 5)
    wt_levels: Four = (5, 4, 3, 2)
    in_channels: int = Field(default=3, ge=1)
    patch_size: int = Field(default=4, ge=1, le=4)
    layer_scale: bool = True
    conv_mlp: bool = False
    norm_eps: float = Field(default=1e-6, gt=0)

    @property
    def minimum_size(self) -> int:
        """Smallest image height and width that leave one position in the last stage."""
        return self.patch_size * (16 if self.patch_size == 2 else 8)

    @property
    def size_multiple(self) -> int:
        """Any size goes: odd maps are zero-padded inside the wavelet convolutions."""
        return 1

    @property
    def task(self) -> Task:
        """What the output means."""
        return "classification" if self.num_classes else "unknown"


class LayerNorm2d(nn.LayerNorm):
    """Normalise each position of (N, C, H, W) over its channels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two dense layers at every position: the last axis for linear layers, C for 1x1 convs."""

    def __init__(self, dim: int, *, conv: bool) -> None:
        super().__init__()
        hidden = _MLP_RATIO * dim
        self.fc1 = nn.Conv2d(dim, hidden, 1) if conv else nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1) if conv else nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class WTConvNeXtBlock(nn.Module):
    """Depthwise wavelet convolution, normalisation, dense layers; around them a residual."""

    def __init__(self, config: WTConvNeXtConfig, stage: int) -> None:
        super().__init__()
        dim = config.dims[stage]
        self.channels_last = not config.conv_mlp
        self.conv_dw = WTConv2d(
            dim,
            dim,
            kernel_size=config.kernel_sizes[stage],
            wt_levels=config.wt_levels[stage],
        )
        norm = nn.LayerNorm if self.channels_last else LayerNorm2d
        self.norm = norm(dim, eps=config.norm_eps)
        self.mlp = Mlp(dim, conv=config.conv_mlp)
        self.gamma = Parameter(torch.full((dim,), 1e-6)) if config.layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_dw(x)
        if self.channels_last:
            y = self.mlp(self.norm(y.permute(0, 2, 3, 1)))
            y = y if self.gamma is None else y * self.gamma
            y = y.permute(0, 3, 1, 2)
        else:
            y = self.mlp(self.norm(y))
            y = y if self.gamma is None else y * self.gamma.reshape(-1, 1, 1)
        total: Tensor = y + x
        return total


class Stage(nn.Module):
    """Halve the map where the stage does, then run its blocks."""

    def __init__(self, config: WTConvNeXtConfig, stage: int) -> None:
        super().__init__()
        before, dim = config.dims[max(stage - 1, 0)], config.dims[stage]
        # A stem of stride 2 leaves the other halving to the first stage.
        halve = stage > 0 or config.patch_size == 2
        self.downsample: nn.Module = nn.Identity()
        if halve:
            self.downsample = nn.Sequential(
                LayerNorm2d(before, eps=config.norm_eps), nn.Conv2d(before, dim, 2, stride=2)
            )
        self.blocks = nn.Sequential(
            *(WTConvNeXtBlock(config, stage) for _ in range(config.depths[stage]))
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.downsample(x))
        return y


class Head(nn.Module):
    """Average over all positions, normalise, classify: (N, C, h, w) to (N, classes)."""

    def __init__(self, config: WTConvNeXtConfig) -> None:
        super().__init__()
        dim, classes = config.dims[-1], config.num_classes
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.fc = nn.Linear(dim, classes) if classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.norm(self.flatten(self.pool(x))))
        return scores


class WTConvNeXt(nn.Module):
    """A WTConvNeXt classifier.

    Maps an image (N, in_channels, H, W), float32, to class scores (N, num_classes). H and W are
    at least :attr:`WTConvNeXtConfig.minimum_size`.
    """

    def __init__(self, config: WTConvNeXtConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.patch_size
        self.stem = nn.Sequential(
            nn.Conv2d(config.in_channels, config.dims[0], patch, stride=patch),
            LayerNorm2d(config.dims[0], eps=config.norm_eps),
        )
        self.stages = nn.Sequential(*(Stage(config, stage) for stage in range(4)))
        self.head = Head(config)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.stages(self.stem(image)))
        return scores
