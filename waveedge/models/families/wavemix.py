"""WaveMix: token mixing by the Haar wavelet transform, in every published form.

Paper: Jeevan, Viswanathan and Sethi, *WaveMix: a resource-efficient neural network for image
analysis* (arXiv 2205.14375), and the earlier arXiv 2203.03689.

A network is a stem (``conv``), ``depth`` residual blocks (``layers``) and a head whose name in the
state dict tells what it is. Module names are those of the published checkpoints.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from waveedge.models.config import NetworkConfig
from waveedge.models.evidence import Evidence
from waveedge.models.family import Family, Reading
from waveedge.models.wavemix_blocks import LadderBlock, PixelShuffleBlock, SharedBlock, read_block
from waveedge.spec import Task

__all__ = ["FAMILY", "WaveMix", "WaveMixConfig"]


class WaveMixConfig(NetworkConfig):
    """Everything that distinguishes one WaveMix network from another.

    Attributes:
        depth: number of blocks.
        dim: channels of the feature map between blocks; a multiple of 4.
        mult: hidden channels of a feed-forward, as a multiple of ``dim``.
        ff_channels: channels that enter the upsampling layer (no such layer in ``pixelshuffle``).
        block: ``ladder``, one feed-forward a level, deeper levels joined into shallower ones;
            ``shared``, one feed-forward for all levels (the first paper);
            ``pixelshuffle``, one level, upsampled by rearrangement (version 3).
        levels: levels of the wavelet transform.
        in_channels: channels of the image.
        stem: ``patch``, two 3x3 convs and one ``patch_size`` conv of that stride;
            ``strided``, two 3x3 convs of stride ``stride`` each.
        head: ``pool`` and ``head`` are two names of the one that gives class scores (N, classes);
            ``expand``, ``segment`` and ``dense-pool`` are the same dense head under its three
            published names, (N, classes, h, w).
        head_widths: channels after each transposed conv of a dense head; each doubles h and w.
        embedding: channels of a 1x1 conv before the pooled head; none in most checkpoints.
        num_classes: output channels.
        dropout: probability inside the feed-forwards while training.
    """

    depth: int = Field(ge=1)
    dim: int = Field(ge=4, multiple_of=4)
    ff_channels: int = Field(ge=1)
    num_classes: int = Field(ge=1)
    mult: int = Field(default=2, ge=1)
    block: Literal["ladder", "shared", "pixelshuffle"] = "ladder"
    levels: int = Field(default=1, ge=1, le=5)
    in_channels: int = Field(default=3, ge=1)
    stem: Literal["patch", "strided"] = "patch"
    patch_size: int = Field(default=4, ge=1)
    stride: int = Field(default=2, ge=1)
    head: Literal["pool", "head", "expand", "segment", "dense-pool"] = "pool"
    head_widths: tuple[int, ...] = ()
    embedding: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _consistent(self) -> WaveMixConfig:
        if self.block == "ladder" and self.levels > 4:
            raise ValueError("levels: a ladder block has at most 4")
        if self.block == "shared" and self.dim % self.levels:
            raise ValueError("dim must be a multiple of levels in a shared block")
        if self.block == "pixelshuffle" and (self.levels != 1 or self.mult != 4):
            raise ValueError("a pixelshuffle block has levels = 1 and mult = 4")
        if self.classifies == bool(self.head_widths):
            raise ValueError("head_widths belong to a dense head, and to every dense head")
        if self.embedding is not None and not self.classifies:
            raise ValueError("embedding belongs to the pool head")
        return self

    @property
    def classifies(self) -> bool:
        """Whether the output is one score per class."""
        return self.head in ("pool", "head")

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return self.in_channels

    @property
    def reduction(self) -> int:
        """Image pixels to one feature-map position, along one side."""
        return self.patch_size if self.stem == "patch" else self.stride**2

    @property
    def scale(self) -> float:
        """Output pixels to one image pixel, along one side (dense heads)."""
        return float(2 ** len(self.head_widths) / self.reduction)

    @property
    def size_multiple(self) -> int:
        """What image height and width must be multiples of.

        The transform of a map with an odd side is half a row larger than the map, so the
        published blocks fit together only where every level halves exactly.
        """
        return math.lcm(self.reduction * 2**self.levels, max(1, round(1 / self.scale)))

    @property
    def task(self) -> Task:
        """What the output means."""
        if self.classifies:
            return "classification"
        enlarges = self.num_classes == self.in_channels and self.scale > 1
        return "super-resolution" if enlarges else "segmentation"

    @property
    def usual_size(self) -> tuple[int, int]:
        """Height and width that the family's checkpoints are usually run at."""
        height, width = 128, 128
        if self.task == "segmentation":
            height, width = 256, 512
        elif self.task == "classification":
            # Released: 256 (ImageNet) with a patch stem or four levels, 32 (CIFAR) with neither.
            small = 28 if self.in_channels == 1 else 32
            large = self.stem == "patch" or self.reduction > 1
            height = width = 256 if large and self.in_channels != 1 else small
        multiple = self.size_multiple
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def _block(config: WaveMixConfig) -> nn.Module:
    dim, ff, dropout = config.dim, config.ff_channels, config.dropout
    if config.block == "pixelshuffle":
        return PixelShuffleBlock(dim, dropout=dropout)
    kind = LadderBlock if config.block == "ladder" else SharedBlock
    return kind(dim, ff, mult=config.mult, levels=config.levels, dropout=dropout)


def _stem(config: WaveMixConfig) -> nn.Sequential:
    channels, dim = config.in_channels, config.dim
    if config.stem == "strided":
        return nn.Sequential(
            nn.Conv2d(channels, dim // 2, 3, config.stride, 1),
            nn.Conv2d(dim // 2, dim, 3, config.stride, 1),
        )
    return nn.Sequential(
        nn.Conv2d(channels, dim // 4, 3, 1, 1),
        nn.Conv2d(dim // 4, dim // 2, 3, 1, 1),
        nn.Conv2d(dim // 2, dim, config.patch_size, config.patch_size),
        nn.GELU(),
        nn.BatchNorm2d(dim),
    )


def _head(config: WaveMixConfig) -> nn.Sequential:
    if config.classifies:
        width = config.embedding or config.dim
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(width, config.num_classes)
        )
    widths = (config.dim, *config.head_widths)
    doublings = [
        nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
        for before, after in itertools.pairwise(widths)
    ]
    return nn.Sequential(*doublings, nn.Conv2d(widths[-1], config.num_classes, 1))


class WaveMix(nn.Module):
    """A WaveMix network.

    Maps an image (N, in_channels, H, W), float32, to class scores (N, num_classes) or to a map
    (N, num_classes, scale * H, scale * W). H and W must be multiples of
    :attr:`WaveMixConfig.size_multiple`.
    """

    def __init__(self, config: WaveMixConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.head_name = "pool" if config.head == "dense-pool" else config.head
        self.add_module(self.head_name, _head(config))
        self.conv = _stem(config)
        if config.embedding is not None:
            self.final = nn.Conv2d(config.dim, config.embedding, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        for block in self.layers:
            x = block(x) + x
        if self.config.embedding is not None:
            x = self.final(x)
        out: Tensor = getattr(self, self.head_name)(x)
        return out


def _read(evidence: Evidence) -> Reading:
    vote, feed = evidence.vote, r"layers\.\d+\.feedforward\d*"
    patch = evidence.any(r"conv\.[24]\..+")
    last = r"conv\.(2\.(weight|bias)|4\.weight)" if patch else r"conv\.1\.(weight|bias)"
    fields = {
        **read_block(evidence, "", (last, 0)),
        "depth": evidence.count(r"layers\.(\d+)\..+"),
        "in_channels": vote((r"conv\.0\.weight", 1), default=3),
        "stem": "patch" if patch else "strided",
    }
    if patch:
        fields["patch_size"] = vote((r"conv\.2\.weight", 2), (r"conv\.2\.weight", 3), default=4)
    if evidence.any(r"layers\.\d+\.(ff\d+|depthconv)\..+"):
        fields["block"] = "shared"
        fields["levels"] = evidence.count(r"layers\.\d+\.ff(\d+)\..+", first=1)
        upsampling = (r"layers\.\d+\.ff\d+\.weight", 0)
        fields["ff_channels"] = vote(
            (rf"{feed}\.3\.(weight|bias)", 0), upsampling, default=fields["dim"]
        )
    elif vote((rf"{feed}\.4\.weight", 2), default=4) == 3:
        fields |= {"block": "pixelshuffle", "levels": 1}
    else:
        fields["block"] = "ladder"

    dense = next((name for name in ("expand", "segment") if evidence.any(rf"{name}\..+")), None)
    if dense is None and evidence.any(r"pool\.(0|1)\..+"):
        dense = "pool"
    _read_head(evidence, fields, dense)
    assumed: dict[str, Any] = {"dropout": _published_dropout(fields)}
    if not patch:
        assumed["stride"] = _published_stride(fields)
    return {**fields, **assumed}, tuple(assumed)


def _read_head(evidence: Evidence, fields: dict[str, Any], dense: str | None) -> None:
    vote = evidence.vote
    if dense is None:
        name = "head" if evidence.any(r"head\..+") else "pool"
        fields["head"] = name
        fields["num_classes"] = vote((rf"{name}\.2\.(weight|bias)", 0), default=1)
        if evidence.any(r"final\..+"):
            fields["embedding"] = vote((r"final\.(weight|bias)", 0), default=1)
        return
    last = evidence.count(rf"{dense}\.(\d+)\..+") - 1
    fields["head"] = "dense-pool" if dense == "pool" else dense
    fields["num_classes"] = vote((rf"{dense}\.{last}\.(weight|bias)", 0), default=1)
    fields["head_widths"] = tuple(
        vote(
            (rf"{dense}\.{index}\.weight", 1),
            (rf"{dense}\.{index}\.bias", 0),
            # The next layer's input: a transposed conv's weight is (in, out), a conv's (out, in).
            (rf"{dense}\.{index + 1}\.weight", 1 if index + 1 == last else 0),
            default=1,
        )
        for index in range(last)
    )


def _published_stride(fields: Mapping[str, Any]) -> int:
    """One-level classifiers (WaveMix-Lite) and super-resolution keep the image's resolution."""
    if fields["block"] != "ladder":
        return 1
    if "head_widths" not in fields:
        return 1 if fields["levels"] == 1 else 2
    return 1 if len(fields["head_widths"]) == 1 else 2


def _published_dropout(fields: Mapping[str, Any]) -> float:
    trunk_of_classifier = fields["head"] in ("pool", "head", "dense-pool")
    return 0.5 if trunk_of_classifier and fields["block"] != "shared" else 0.0


FAMILY = Family(
    name="wavemix",
    title="WaveMix",
    config=WaveMixConfig,
    module=WaveMix,
    own_keys=r"layers\.\d+\.(feedforward\d*|reduction|ff\d+|depthconv)\..+",
    shared_keys=r"(conv|pool|head|expand|segment|final)\.\d*.*",
    read=_read,
    telling=("block", "levels", "depth", "dim", "stem", "head"),
)
