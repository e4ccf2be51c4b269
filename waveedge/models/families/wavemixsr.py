"""WaveMixSR and WaveMixSR-V2: super-resolution of Y by WaveMix blocks, of Cb and Cr by resizing.

Papers: Jeevan, Srinidhi, Prathiba and Sethi, *WaveMixSR* (WACV 2024, arXiv 2307.00430), and
Jeevan, Nixon and Sethi, *WaveMixSR-V2* (arXiv 2409.10582). Module names are those of the published
checkpoints.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from waveedge.models.config import NetworkConfig
from waveedge.models.evidence import Evidence
from waveedge.models.family import Family, Reading
from waveedge.models.wavemix_blocks import LadderBlock, PixelShuffleBlock, read_block
from waveedge.spec import Colour, Task

__all__ = ["FAMILY", "WaveMixSR", "WaveMixSRConfig", "WaveMixSRV2", "wavemixsr"]


class WaveMixSRConfig(NetworkConfig):
    """Everything that distinguishes one WaveMixSR network from another.

    Attributes:
        version: 1, one stage of transposed-convolution blocks; 2, stages in a row of PixelShuffle
            blocks.
        depth: blocks of each stage.
        dim: channels of the feature map between blocks; a multiple of 4.
        mult: hidden channels of a feed-forward, as a multiple of ``dim``.
        ff_channels: channels that enter a block's upsampling layer; 4 * dim in version 2.
        stages: enlargements one after the other.
        scale: output pixels of a stage to one of its input, along one side.
        interpolation: how a stage enlarges its input before anything is learnt.
        dropout: probability inside the feed-forwards while training.
    """

    depth: int = Field(ge=1)
    dim: int = Field(ge=4, multiple_of=4)
    ff_channels: int = Field(ge=1)
    version: Literal[1, 2] = 1
    mult: int = Field(default=1, ge=1)
    stages: int = Field(default=1, ge=1, le=6)
    scale: int = Field(default=2, ge=1, le=8)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _consistent(self) -> WaveMixSRConfig:
        if self.version == 1 and self.stages != 1:
            raise ValueError("stages: version 1 has one")
        if self.version == 2 and self.ff_channels != 4 * self.dim:
            raise ValueError("ff_channels must be 4 * dim in version 2")
        return self

    @property
    def task(self) -> Task:
        """What the output means."""
        return "super-resolution"

    @property
    def colour(self) -> Colour:
        """What the channels mean: Y alone is learnt."""
        return "ycbcr"

    @property
    def size_multiple(self) -> int:
        """The enlarged map must halve exactly."""
        return 1 if self.scale % 2 == 0 else 2

    @property
    def usual_size(self) -> tuple[int, int]:
        """Height and width that the family's checkpoints are usually run at."""
        return 128, 128


class WaveMixSR(nn.Module):
    """A WaveMixSR network of one stage: resize all channels, then learn the details of Y.

    Maps an image (N, 3, H, W), float32, channels Y, Cb, Cr in 0..1, to the enlarged image
    (N, 3, scale H, scale W).
    """

    def __init__(self, config: WaveMixSRConfig) -> None:
        super().__init__()
        self.config = config
        dim, half = config.dim, config.dim // 2
        self.layers = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.final = nn.Sequential(nn.Conv2d(dim, half, 3, padding=1), nn.Conv2d(half, 1, 1))
        self.path1 = nn.Sequential(
            _enlarge(config), nn.Conv2d(1, half, 3, padding=1), nn.Conv2d(half, dim, 3, padding=1)
        )
        self.path2 = nn.Sequential(_enlarge(config))

    def forward(self, image: Tensor) -> Tensor:
        luma = self.path1(image[:, :1])
        for block in self.layers:
            luma = block(luma) + luma
        return torch.cat((self.final(luma), self.path2(image[:, 1:3])), 1)


def _block(config: WaveMixSRConfig) -> nn.Module:
    dim, mult, dropout = config.dim, config.mult, config.dropout
    if config.version == 2:
        return PixelShuffleBlock(dim, mult=mult, dropout=dropout)
    return LadderBlock(dim, config.ff_channels, mult=mult, dropout=dropout)


def _enlarge(config: WaveMixSRConfig) -> nn.Upsample:
    return nn.Upsample(scale_factor=config.scale, mode=config.interpolation, align_corners=False)


class WaveMixSRV2(nn.Module):
    """A WaveMixSR-V2 network: :class:`WaveMixSR` stages, each of its own weights, in a row.

    Maps (N, 3, H, W) to (N, 3, f H, f W) with f = scale ** stages.
    """

    def __init__(self, config: WaveMixSRConfig) -> None:
        super().__init__()
        self.config = config
        self.SR_blocks = nn.Sequential(*(WaveMixSR(config) for _ in range(config.stages)))

    def forward(self, image: Tensor) -> Tensor:
        enlarged: Tensor = self.SR_blocks(image)
        return enlarged


def wavemixsr(config: WaveMixSRConfig) -> WaveMixSR | WaveMixSRV2:
    """Build the network of either version, with fresh random weights."""
    return WaveMixSR(config) if config.version == 1 else WaveMixSRV2(config)


def _read(evidence: Evidence) -> Reading:
    stage = r"(?:SR_blocks\.\d+\.)?"
    fields = read_block(evidence, stage, (rf"{stage}path1\.2\.(weight|bias)", 0))
    del fields["levels"]
    fields["depth"] = evidence.count(rf"{stage}layers\.(\d+)\..+")
    fields["dropout"] = 0.3
    if evidence.any(r"SR_blocks\..+"):
        stages = evidence.count(r"SR_blocks\.(\d+)\..+")
        fields |= {"version": 2, "stages": stages, "ff_channels": 4 * fields["dim"]}
        return fields, ("dropout",)
    return {**fields, "scale": 2, "interpolation": "bicubic"}, ("dropout", "scale", "interpolation")


FAMILY = Family(
    name="wavemixsr",
    title="WaveMixSR",
    config=WaveMixSRConfig,
    module=wavemixsr,
    own_keys=r"(SR_blocks\.\d+\.(layers|final|path1)|path1)\..+",
    shared_keys=r"(layers\.\d+\.(feedforward|reduction)|final\.\d)\..+",
    read=_read,
    telling=("depth", "dim"),
)
