"""WTConvNeXt as the backbone of a segmentation network, by the names of mmsegmentation.

The authors' semantic segmentation code follows mmpretrain's ConvNeXt: the same network as
:class:`~waveedge.models.WTConvNeXt`, without a head, with other names, and with a normalisation
behind each stage that it returns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import Parameter

from waveedge.models.convnext_layers import LayerNorm2d

if TYPE_CHECKING:
    from waveedge.models.families.wtconvnext import WTConvNeXtConfig

__all__ = ["WTConvNeXtBackbone", "published_name"]

_RATIO = 4

_NAMES = (
    (r"downsample_layers\.0\.", "stem."),
    (r"downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.depthwise_conv\.", ".conv_dw."),
    (r"\.pointwise_conv([12])\.", r".mlp.fc\1."),
)


def published_name(name: str) -> str:
    """The name that a backbone's parameter has in the classifier."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


class _Block(nn.Module):
    """Depthwise wavelet convolution, normalisation, two linear layers; around them a residual."""

    def __init__(self, config: WTConvNeXtConfig, stage: int) -> None:
        super().__init__()
        dim = config.dims[stage]
        self.depthwise_conv = config.depthwise(stage)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.pointwise_conv1 = nn.Linear(dim, _RATIO * dim)
        self.act = nn.GELU()
        self.pointwise_conv2 = nn.Linear(_RATIO * dim, dim)
        self.gamma = Parameter(self.norm.weight.detach() * 1e-6) if config.layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise_conv(x).permute(0, 2, 3, 1))
        y = self.pointwise_conv2(self.act(self.pointwise_conv1(y)))
        y = y if self.gamma is None else y * self.gamma
        total: Tensor = x + y.permute(0, 3, 1, 2)
        return total


class WTConvNeXtBackbone(nn.Module):
    """The maps behind the stages that ``config.out_stages`` names.

    Maps an image (N, in_channels, H, W), float32, to a map (N, C, h, w) of one stage, or a tuple of
    such, the finest first.
    """

    def __init__(self, config: WTConvNeXtConfig) -> None:
        super().__init__()
        self.config = config
        dims, bias = config.dims, config.conv_bias
        norms = [LayerNorm2d(dim, eps=config.norm_eps) for dim in (dims[0], *dims[:3])]
        patch = config.patch_size
        convs = [
            nn.Conv2d(config.in_channels, dims[0], patch, stride=patch, bias=bias),
            *(nn.Conv2d(dims[n], dims[n + 1], 2, stride=2, bias=bias) for n in range(3)),
        ]
        self.downsample_layers = nn.ModuleList(
            nn.Sequential(*((norm, conv) if stage else (conv, norm)))
            for stage, (norm, conv) in enumerate(zip(norms, convs, strict=True))
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(config, stage) for _ in range(config.depths[stage])))
            for stage in range(4)
        )
        for stage in config.out_stages:
            self.add_module(f"norm{stage}", LayerNorm2d(dims[stage], eps=config.norm_eps))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, maps = image, []
        for stage, (down, blocks) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            x = blocks(down(x))
            if stage in self.config.out_stages:
                maps.append(self.get_submodule(f"norm{stage}")(x))
        return maps[0] if len(maps) == 1 else tuple(maps)
