"""WTConvNeXt: ConvNeXt with depthwise wavelet convolutions.

Paper: Finder, Amoyal, Treister and Freifeld, *Wavelet Convolutions for Large Receptive Fields*
(ECCV 2024, arXiv 2407.05848). Module names and numbers are those of the published checkpoints,
which follow timm's ConvNeXt; timm itself is not needed.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import Parameter

from waveedge.models.config import NetworkConfig
from waveedge.models.convnext_layers import LayerNorm2d, Mlp
from waveedge.models.evidence import Evidence
from waveedge.models.family import Family, Reading
from waveedge.models.wtconvnext_mmseg import WTConvNeXtBackbone, published_name
from waveedge.nn.wtconv import WTConv2d
from waveedge.spec import Task

__all__ = ["FAMILY", "WTConvNeXt", "WTConvNeXtConfig"]

Four = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class WTConvNeXtConfig(NetworkConfig):
    """Everything that distinguishes one WTConvNeXt network from another.

    Attributes:
        depths: blocks in each of the four stages.
        dims: channels of each stage.
        num_classes: classes; 0 leaves the last linear layer out and gives the pooled features.
        kernel_sizes: side of the depthwise kernels of each stage.
        wt_levels: wavelet levels of the depthwise convolutions of each stage.
        in_channels: channels of the image.
        stem: ``patch``, one convolution that reads each patch once; ``overlap``, two 3x3
            convolutions of stride 2.
        patch_size: side and stride of the patch stem's convolution.
        stem_width: channels between the two convolutions of an overlap stem.
        output_stride: image pixels to one position of the last stage, along one side: stages that
            would go beyond keep their size and read every second position instead.
        layer_scale: whether each block ends with a learned factor per channel.
        conv_mlp: whether the block's two dense layers are 1x1 convs instead of linear layers.
        grn: whether a global response normalisation stands between the two dense layers.
        conv_bias: whether stem, down-sampling and depthwise convolutions have a bias.
        head_norm: where the head normalises: ``pooled`` values, or the ``map`` before pooling.
        head_hidden: channels of a hidden layer before the classes; none in most checkpoints.
        norm_eps: added to variances before the square root.
        out_stages: of a backbone (see wtconvnext_mmseg.py), the stages, from 0, whose maps it
            yields; none of a classifier.
    """

    depths: Four
    dims: Four
    num_classes: int = Field(ge=0)
    kernel_sizes: Four = (5, 5, 5, 5)
    wt_levels: Four = (5, 4, 3, 2)
    in_channels: int = Field(default=3, ge=1)
    stem: Literal["patch", "overlap"] = "patch"
    patch_size: int = Field(default=4, ge=1, le=4)
    stem_width: int | None = Field(default=None, ge=1)
    # Settings come as text, which a choice of numbers would not take.
    output_stride: Annotated[Literal[8, 16, 32], BeforeValidator(int)] = 32
    layer_scale: bool = True
    conv_mlp: bool = False
    grn: bool = False
    conv_bias: bool = True
    head_norm: Literal["pooled", "map"] = "pooled"
    head_hidden: int | None = Field(default=None, ge=1)
    norm_eps: float = Field(default=1e-6, gt=0)
    out_stages: tuple[Annotated[int, Field(ge=0, le=3)], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> WTConvNeXtConfig:
        if (self.stem == "overlap") == (self.stem_width is None):
            raise ValueError("stem_width belongs to the overlap stem, and to every overlap stem")
        if self.head_norm == "map" and self.head_hidden is not None:
            raise ValueError("head_hidden belongs to a head that normalises pooled values")
        if self.out_stages and (self.num_classes or self.stem == "overlap" or self.grn):
            raise ValueError("a backbone has no classes, no overlap stem and no GRN")
        return self

    @property
    def samplings(self) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of the down-sampling before each stage; (1, 0) where there is none."""
        reached = self.patch_size if self.stem == "patch" else 4
        dilation, samplings = 1, []
        for stage in range(4):
            # A stem of stride 2 leaves the other halving to the first stage.
            if stage == 0 and reached != 2:
                samplings.append((1, 0))
            elif reached < self.output_stride:
                reached *= 2
                samplings.append((2, 1))
            else:
                samplings.append((1, dilation))
                dilation = 2
        return tuple(samplings)

    def depthwise(self, stage: int) -> WTConv2d:
        """A depthwise convolution of a stage's blocks, with fresh random weights."""
        dim = self.dims[stage]
        return WTConv2d(
            dim,
            dim,
            kernel_size=self.kernel_sizes[stage],
            bias=self.conv_bias,
            wt_levels=self.wt_levels[stage],
        )

    @property
    def minimum_size(self) -> int:
        """Smallest image height and width that leave one position in the last stage."""
        positions = math.prod(stride for stride, _ in self.samplings)
        # Each 3x3 convolution of stride 2 rounds up.
        return self.patch_size * positions if self.stem == "patch" else 4 * positions - 3

    @property
    def task(self) -> Task:
        """What the output means."""
        return "classification" if self.num_classes else "unknown"

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return self.in_channels

    @property
    def usual_size(self) -> tuple[int, int]:
        """Height and width that the family's checkpoints are usually run at."""
        return 224, 224


class WTConvNeXtBlock(nn.Module):
    """Depthwise wavelet convolution, normalisation, dense layers; around them a residual."""

    def __init__(self, config: WTConvNeXtConfig, stage: int) -> None:
        super().__init__()
        dim = config.dims[stage]
        self.channels_last = not config.conv_mlp
        self.conv_dw = config.depthwise(stage)
        norm = nn.LayerNorm if self.channels_last else LayerNorm2d
        self.norm = norm(dim, eps=config.norm_eps)
        self.mlp = Mlp(dim, conv=config.conv_mlp, grn=config.grn)
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
    """Normalise and halve the map where the stage does, then run its blocks."""

    def __init__(self, config: WTConvNeXtConfig, stage: int) -> None:
        super().__init__()
        before, dim = config.dims[max(stage - 1, 0)], config.dims[stage]
        stride, dilation = config.samplings[stage]
        self.downsample: nn.Module = nn.Identity()
        if dilation:
            self.downsample = nn.Sequential(
                LayerNorm2d(before, eps=config.norm_eps),
                nn.Conv2d(
                    before,
                    dim,
                    2,
                    stride=stride,
                    padding="same" if stride == 1 else 0,
                    dilation=dilation,
                    bias=config.conv_bias,
                ),
            )
        self.blocks = nn.Sequential(
            *(WTConvNeXtBlock(config, stage) for _ in range(config.depths[stage]))
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.downsample(x))
        return y


class _Hidden(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, hidden)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.fc(x))
        return y


class Head(nn.Module):
    """Average over all positions, normalise, classify: (N, C, h, w) to (N, classes)."""

    def __init__(self, config: WTConvNeXtConfig) -> None:
        super().__init__()
        dim, classes = config.dims[-1], config.num_classes
        pooled, hidden = config.head_norm == "pooled", config.head_hidden
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps) if pooled else nn.Identity()
        self.pre_logits = _Hidden(dim, hidden) if hidden else nn.Identity()
        self.fc = nn.Linear(hidden or dim, classes) if classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.pre_logits(self.norm(self.flatten(self.pool(x)))))
        return scores


def _stem(config: WTConvNeXtConfig) -> nn.Sequential:
    channels, dim, bias = config.in_channels, config.dims[0], config.conv_bias
    if config.stem_width is None:
        patch = config.patch_size
        convs = [nn.Conv2d(channels, dim, patch, stride=patch, bias=bias)]
    else:
        convs = [
            nn.Conv2d(channels, config.stem_width, 3, stride=2, padding=1, bias=bias),
            nn.Conv2d(config.stem_width, dim, 3, stride=2, padding=1, bias=bias),
        ]
    return nn.Sequential(*convs, LayerNorm2d(dim, eps=config.norm_eps))


class WTConvNeXt(nn.Module):
    """A WTConvNeXt classifier.

    Maps an image (N, in_channels, H, W), float32, to class scores (N, num_classes). H and W are
    at least :attr:`WTConvNeXtConfig.minimum_size`.
    """

    def __init__(self, config: WTConvNeXtConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _stem(config)
        self.stages = nn.Sequential(*(Stage(config, stage) for stage in range(4)))
        on_map = config.head_norm == "map"
        self.norm_pre = (
            LayerNorm2d(config.dims[-1], eps=config.norm_eps) if on_map else nn.Identity()
        )
        self.head = Head(config)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.norm_pre(self.stages(self.stem(image))))
        return scores


def _read(evidence: Evidence) -> Reading:
    if evidence.any(r"downsample_layers\..+"):
        names = {published_name(name): shape for name, shape in evidence.shapes.items()}
        read, _ = _read(Evidence(names))
        yielded = (n for n in range(4) if evidence.any(rf"norm{n}\.(weight|bias)"))
        return {**read, "out_stages": tuple(yielded)}, ("norm_eps",)
    vote = evidence.vote
    stages = [rf"stages\.{stage}\.blocks\.\d+" for stage in range(4)]
    depthwise = r"\.conv_dw\.(base_conv|wavelet_convs\.\d+)\.weight"
    classes = vote((r"head\.fc\.(weight|bias)", 0), default=0)
    blocks = evidence.number(r"stages\.\d+\.blocks\.\d+\.norm\.weight")
    overlap = evidence.any(r"stem\.1\.weight", dimensions=4)
    biased = r"(stem\.[01]|stages\.\d+\.(downsample\.1|blocks\.\d+\.conv_dw\.base_conv))\."
    fields: dict[str, Any] = {
        "depths": tuple(
            evidence.count(rf"stages\.{stage}\.blocks\.(\d+)\..+") for stage in range(4)
        ),
        "dims": tuple(
            vote(
                (rf"{stage}\.norm\.(weight|bias)", 0),
                (rf"{stage}\.conv_dw\.base_conv\.(weight|bias)", 0),
                (rf"{stage}\.mlp\.fc2\.(weight|bias)", 0),
                default=1,
            )
            for stage in stages
        ),
        "kernel_sizes": tuple(
            vote((f"{stage}{depthwise}", 2), (f"{stage}{depthwise}", 3), default=5)
            for stage in stages
        ),
        "wt_levels": tuple(
            max(1, evidence.count(rf"{stage}\.conv_dw\.wavelet_(?:convs|scale)\.(\d+)\..+"))
            for stage in stages
        ),
        "num_classes": classes,
        "in_channels": vote((r"stem\.0\.weight", 1), default=3),
        "layer_scale": 2 * evidence.number(r"stages\.\d+\.blocks\.\d+\.gamma") >= blocks,
        "grn": 2 * evidence.number(r"stages\.\d+\.blocks\.\d+\.mlp\.grn\.weight") >= max(blocks, 1),
        # The norm after a patch stem has the name of a convolution after an overlap stem.
        "conv_bias": evidence.number(f"{biased}bias") > evidence.number(f"{biased}weight") // 2,
        "head_norm": "map" if evidence.any(r"norm_pre\..+") else "pooled",
        "conv_mlp": evidence.any(r"stages\.\d+\.blocks\.\d+\.mlp\.fc[12]\.weight", dimensions=4),
    }
    if overlap:
        fields |= {
            "stem": "overlap",
            "stem_width": vote((r"stem\.0\.(weight|bias)", 0), (r"stem\.1\.weight", 1), default=1),
        }
    else:
        sides = (r"stem\.0\.weight", 2), (r"stem\.0\.weight", 3)
        fields["patch_size"] = vote(*sides, default=4)
    hidden = r"head\.pre_logits\.fc\.(weight|bias)"
    if evidence.any(hidden):
        fields["head_hidden"] = vote((hidden, 0), (r"head\.fc\.weight", 1), default=1)
    return {**fields, "norm_eps": 1e-6, "output_stride": 32}, ("norm_eps", "output_stride")


def _module(config: WTConvNeXtConfig) -> nn.Module:
    """A classifier, or the backbone of a segmentation network."""
    return WTConvNeXtBackbone(config) if config.out_stages else WTConvNeXt(config)


FAMILY = Family(
    name="wtconvnext",
    title="WTConvNeXt",
    config=WTConvNeXtConfig,
    module=_module,
    own_keys=r"stages\.\d+\.(blocks\.\d+\.((conv_dw|norm|mlp)\..+|gamma)"
    r"|\d+\.(depthwise_conv|pointwise_conv[12])\..+)",
    shared_keys=r"(stem|head|norm_pre|stages\.\d+\.downsample"
    r"|downsample_layers|norm[0-3]|stages\.\d+\.\d+\.norm)\..+",
    read=_read,
    telling=("depths", "dims", "wt_levels", "stem"),
)
