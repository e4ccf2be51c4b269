"""WavePaint: inpainting by WaveMix blocks between an encoder and a decoder, module after module.

Paper: Jeevan, Kumar and Sethi, *WavePaint: Resource-efficient Token-mixer for Self-supervised
Inpainting* (arXiv 2307.00407). Module names are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from waveedge.models.config import NetworkConfig
from waveedge.models.evidence import Evidence
from waveedge.models.family import Family, Reading
from waveedge.models.wavemix_blocks import LadderBlock, read_block
from waveedge.spec import Task

__all__ = ["FAMILY", "WavePaint", "WavePaintConfig"]


class WavePaintConfig(NetworkConfig):
    """Everything that distinguishes one WavePaint network from another.

    Attributes:
        modules: encoders and decoders in a row, each correcting the image of the one before.
        depth: blocks of each module.
        dim: channels of the feature map between blocks; a multiple of 4.
        ff_channels: channels that enter a block's upsampling layers.
        mult: hidden channels of a feed-forward, as a multiple of ``dim``.
        levels: levels of the wavelet transform.
        reads_mask: whether the modules see the mask beside the image.
        dropout: probability inside the feed-forwards while training.
    """

    modules: int = Field(ge=1)
    depth: int = Field(ge=1)
    dim: int = Field(ge=4, multiple_of=4)
    ff_channels: int = Field(ge=1)
    mult: int = Field(default=2, ge=1)
    levels: int = Field(default=1, ge=1, le=2)
    reads_mask: bool = True
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def task(self) -> Task:
        """What the output means."""
        return "restoration"

    @property
    def channels(self) -> int:
        """Channels of the image, and the mask."""
        return 4

    @property
    def size_multiple(self) -> int:
        """The encoder halves the image, and each level halves the map."""
        return int(2 ** (1 + self.levels))

    @property
    def usual_size(self) -> tuple[int, int]:
        """Height and width that the family's checkpoints are usually run at."""
        return 256, 256


class PaintModule(nn.Module):
    """Encode, mix tokens, decode: image (N, 3, h, w) and mask (N, 1, h, w) to (N, 3, h, w)."""

    def __init__(self, config: WavePaintConfig) -> None:
        super().__init__()
        dim, half = config.dim, config.dim // 2
        self.reads_mask = config.reads_mask
        self.conv = nn.Sequential(
            nn.Conv2d(4 if config.reads_mask else 3, half, 3, padding=1),
            nn.Conv2d(half, dim, 3, stride=2, padding=1),
        )
        self.layers = nn.ModuleList(
            LadderBlock(
                dim,
                config.ff_channels,
                mult=config.mult,
                levels=config.levels,
                dropout=config.dropout,
            )
            for _ in range(config.depth)
        )
        self.depthconv = nn.Sequential(
            nn.Conv2d(dim, dim, 5, padding=2, groups=dim), nn.GELU(), nn.BatchNorm2d(dim)
        )
        self.decoder1 = nn.Sequential(
            nn.ConvTranspose2d(2 * dim, half, 4, stride=2, padding=1), nn.BatchNorm2d(half)
        )
        self.decoder2 = nn.Sequential(nn.Conv2d(half + 3, 3, 1))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        encoded = self.conv(torch.cat((image, mask), 1) if self.reads_mask else image)
        x = encoded
        for block in self.layers:
            x = block(x) + x
        x = self.decoder1(torch.cat((self.depthconv(x), encoded), 1))
        painted: Tensor = self.decoder2(torch.cat((x, image), 1))
        return painted


class WavePaint(nn.Module):
    """A WavePaint network.

    Maps (N, 4, H, W), float32: an image in 0..1 whose holes are zero, and the mask, 1 in the holes
    and 0 elsewhere, to the filled image (N, 3, H, W). H and W must be multiples of
    :attr:`WavePaintConfig.size_multiple`. (The published module takes image and mask apart.)
    """

    def __init__(self, config: WavePaintConfig) -> None:
        super().__init__()
        self.config = config
        self.wavemodules = nn.ModuleList(PaintModule(config) for _ in range(config.modules))

    def forward(self, image_and_mask: Tensor) -> Tensor:
        image, mask = image_and_mask[:, :3], image_and_mask[:, 3:]
        x = image
        for module in self.wavemodules:
            x = module(x, mask) + x
        # The form that does not read the mask relies on holes that are zero.
        return x * mask + (image * (1 - mask) if self.config.reads_mask else image)


def _read(evidence: Evidence) -> Reading:
    module = r"wavemodules\.\d+\."
    fields = {
        **read_block(
            evidence,
            module,
            (rf"{module}conv\.1\.(weight|bias)", 0),
            (rf"{module}depthconv\.[02]\.(weight|bias)", 0),
        ),
        "modules": evidence.count(r"wavemodules\.(\d+)\..+"),
        "depth": evidence.count(rf"{module}layers\.(\d+)\..+"),
        "reads_mask": evidence.vote((rf"{module}conv\.0\.weight", 1), default=4) == 4,
    }
    return {**fields, "dropout": 0.0}, ("dropout",)


FAMILY = Family(
    name="wavepaint",
    title="WavePaint",
    config=WavePaintConfig,
    module=WavePaint,
    own_keys=r"wavemodules\.\d+\..+",
    shared_keys=r"depthconv\..+",
    read=_read,
    telling=("levels", "depth", "dim"),
)
