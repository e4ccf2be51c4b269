"""WaveMix-Lite as dodoseung/wavemix-lite-pytorch has it: a third party's, with names of its own.

Each block joins the bands one after the other, all channels of a band together, where the authors'
WaveMix keeps the detail bands of a channel together; so the 1x1 convolutions read another order.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from waveedge.models.config import NetworkConfig
from waveedge.models.evidence import Evidence
from waveedge.models.family import Family, Reading
from waveedge.nn.dwt import DWT2d
from waveedge.spec import Task

__all__ = ["FAMILY", "WaveMixLite", "WaveMixLiteConfig"]


class WaveMixLiteConfig(NetworkConfig):
    """Everything that distinguishes one of these networks from another.

    Attributes:
        depth: number of blocks.
        dim: channels of the feature map between blocks; a multiple of 4.
        num_classes: output channels.
        mult: hidden channels of a feed-forward, as a multiple of ``dim``.
        dense: whether the output is a map of scores (segmentation) instead of one score a class.
        dropout: probability inside the feed-forwards while training.
    """

    depth: int = Field(ge=1)
    dim: int = Field(ge=4, multiple_of=4)
    num_classes: int = Field(ge=1)
    mult: int = Field(default=2, ge=1)
    dense: bool = False
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)

    @property
    def task(self) -> Task:
        """What the output means."""
        return "segmentation" if self.dense else "classification"

    @property
    def size_multiple(self) -> int:
        """The transform halves the map; a dense network's stem made it 4 times smaller before."""
        return 8 if self.dense else 2

    @property
    def usual_size(self) -> tuple[int, int]:
        """Height and width that the network's training scripts use."""
        return (256, 512) if self.dense else (32, 32)


class Block(nn.Module):
    """Mix tokens at one level; maps (N, dim, h, w) to (N, dim, h, w), h and w even."""

    def __init__(self, config: WaveMixLiteConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.mult * config.dim
        self.conv_input = nn.Conv2d(dim, dim // 4, 1)
        self.transform = DWT2d()
        self.fc = nn.Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Conv2d(hidden, dim, 1),
        )
        self.conv_trans = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1)
        self.batch_norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(self.conv_input(x))
        rows, columns, both = details[:, :, 0], details[:, :, 1], details[:, :, 2]
        mixed = self.fc(torch.cat((low, columns, rows, both), 1))
        y: Tensor = self.batch_norm(self.conv_trans(mixed)) + x
        return y


class _Trunk(nn.Module):
    """The blocks in a row, under the name that the state dict repeats."""

    def __init__(self, config: WaveMixLiteConfig) -> None:
        super().__init__()
        self.wavemixlite = nn.Sequential(*(Block(config) for _ in range(config.depth)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.wavemixlite(x)
        return y


class WaveMixLite(nn.Module):
    """A WaveMix-Lite network of the third party.

    Maps an image (N, 3, H, W), float32, to class scores (N, num_classes), or if dense to a map of
    them (N, num_classes, H, W). H and W must be multiples of
    :attr:`WaveMixLiteConfig.size_multiple`.
    """

    def __init__(self, config: WaveMixLiteConfig) -> None:
        super().__init__()
        self.config = config
        dim, classes = config.dim, config.num_classes
        stride = 2 if config.dense else 1
        self.wavemixlite = _Trunk(config)
        self.conv = nn.Sequential(
            nn.Conv2d(3, dim // 2, 3, stride, 1), nn.Conv2d(dim // 2, dim, 3, stride, 1)
        )
        if config.dense:
            self.convT = nn.Sequential(
                nn.ConvTranspose2d(dim, dim // 2, 4, stride=2, padding=1),
                nn.ConvTranspose2d(dim // 2, dim // 4, 4, stride=2, padding=1),
            )
            self.segmentation = nn.Conv2d(dim // 4, classes, 1)
        else:
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.flatten = nn.Flatten(1)
            self.fc = nn.Linear(dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.wavemixlite(self.conv(image))
        if self.config.dense:
            scores: Tensor = self.segmentation(self.convT(x))
        else:
            scores = self.fc(self.flatten(self.pool(x)))
        return scores


def _read(evidence: Evidence) -> Reading:
    vote, block = evidence.vote, r"wavemixlite\.wavemixlite\.\d+"
    dim = vote(
        (rf"{block}\.conv_input\.weight", 1),
        (rf"{block}\.batch_norm\.(weight|bias)", 0),
        (r"conv\.1\.(weight|bias)", 0),
        default=4,
    )
    fields = {
        "depth": evidence.count(r"wavemixlite\.wavemixlite\.(\d+)\..+"),
        "dim": dim,
        "mult": max(1, vote((rf"{block}\.fc\.0\.(weight|bias)", 0), default=dim) // dim),
        "num_classes": vote((r"(fc|segmentation)\.(weight|bias)", 0), default=1),
        "dense": evidence.any(r"(convT|segmentation)\..+"),
    }
    return {**fields, "dropout": 0.5}, ("dropout",)


FAMILY = Family(
    name="wavemixlite",
    title="WaveMix-Lite (dodoseung)",
    config=WaveMixLiteConfig,
    module=WaveMixLite,
    own_keys=r"wavemixlite\.wavemixlite\.\d+\..+",
    shared_keys=r"(conv|convT|fc|segmentation)\..+",
    read=_read,
    telling=("depth", "dim"),
)
