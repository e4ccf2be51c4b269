"""A network as torch-pruning can follow it from channel to channel, and back.

torch-pruning reads the graph of gradients and takes what it does not know for an operation that
leaves channels alone. A wavelet transform makes four of each, so networks are written otherwise
while channels are chosen; nothing of that stays in the pruned network.

* A block of WaveMix computes its Haar transform by four depthwise convolutions, whose outputs are
  concatenated. The inputs of the layers behind it change places to match.
* A WTConv layer is hidden as one operation that maps every channel to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from waveedge.models.wavemix_blocks import LadderBlock
from waveedge.nn import DWT2d, WTConv2d
from waveedge.nn.dwt import outer
from waveedge.nn.kernels import wavelet_kernels

__all__ = ["Hidden", "LadderOfConvolutions", "followed", "keep_channels", "restore"]

BANDS = 4


class LadderOfConvolutions(nn.Module):
    """What a :class:`LadderBlock` computes, of the same layers, in plain convolutions."""

    def __init__(self, block: LadderBlock) -> None:
        super().__init__()
        # Not as a submodule: its layers would be found twice.
        self.original = (block,)
        self.reduction = block.reduction
        self.feedforwards = nn.ModuleList(block.get_submodule(name) for name in block.names)
        transform = block.transforms[0]
        assert isinstance(transform, DWT2d)
        channels = self.reduction.out_channels
        assert isinstance(channels, int)
        self.bands = nn.ModuleList(
            nn.ModuleList(_depthwise(kernel, channels) for kernel in outer(transform.filters))
            for _ in block.names
        )
        self._permute(_plain_order(channels))

    def forward(self, x: Tensor) -> Tensor:
        low, levels = self.reduction(x), []
        for bands in self.bands:
            assert isinstance(bands, nn.ModuleList)
            made = [band(low) for band in bands]
            low = made[0]
            levels.append(made)
        mixed: Tensor = self.feedforwards[-1](torch.cat(levels[-1], 1))
        for made, feedforward in zip(levels[-2::-1], list(self.feedforwards)[-2::-1], strict=True):
            mixed = feedforward(torch.cat([*made, mixed], 1))
        return mixed

    def restored(self) -> LadderBlock:
        """The block that it was made of, with the channels that are left."""
        channels = self.reduction.out_channels
        assert isinstance(channels, int)
        self._permute(torch.argsort(_plain_order(channels)))
        return self.original[0]

    @torch.no_grad()
    def _permute(self, order: Tensor) -> None:
        for feedforward in self.feedforwards:
            assert isinstance(feedforward, nn.Sequential)
            first = feedforward[0]
            assert isinstance(first, nn.Conv2d)
            weight = first.weight
            weight.copy_(torch.cat([weight[:, order], weight[:, len(order) :]], 1))


def _depthwise(kernel: Tensor, channels: int) -> nn.Conv2d:
    # Many are made; drawing weights that are then replaced would take most of the time.
    layer = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, channels, channels, 2, stride=2, groups=channels, bias=False
    )
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        layer.weight.copy_(kernel.expand_as(layer.weight))
    return layer


def _plain_order(channels: int) -> Tensor:
    """Where a concatenation of whole bands finds its channels in a block's own order.

    That one has the low band first, then the three details of every channel.
    """
    low = torch.arange(channels)
    details = channels + torch.arange(channels * (BANDS - 1)).reshape(channels, -1).T.flatten()
    return torch.cat([low, details])


class _AsOne(torch.autograd.Function):
    """Runs a module as a single node of the graph of gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.Module) -> Tensor:
        with torch.no_grad():
            y: Tensor = module(x)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("it is there to be followed, not to be trained")


class Hidden(nn.Module):
    """A WTConv layer as one operation."""

    def __init__(self, layer: WTConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _AsOne.apply(x, self.layer)  # type: ignore[no-untyped-call]
        return y


@torch.no_grad()
def keep_channels(layer: WTConv2d, kept: Sequence[int]) -> None:
    """Leave out the other channels of a WTConv layer, in place."""
    bands = [BANDS * channel + band for channel in kept for band in range(BANDS)]
    analysis, synthesis = wavelet_kernels(layer.wt_type, len(kept))
    layer.wt_filter = nn.Parameter(analysis.to(layer.wt_filter), requires_grad=False)
    layer.iwt_filter = nn.Parameter(synthesis.to(layer.iwt_filter), requires_grad=False)
    _keep(layer.base_conv, kept)
    layer.base_scale.weight = nn.Parameter(layer.base_scale.weight[:, kept])
    for conv, scale in zip(layer.wavelet_convs, layer.wavelet_scale, strict=True):
        assert isinstance(conv, nn.Conv2d)
        _keep(conv, bands)
        assert isinstance(scale.weight, Tensor)
        scale.weight = nn.Parameter(scale.weight[:, bands])
    layer.in_channels = layer.out_channels = len(kept)


def _keep(conv: nn.Conv2d, kept: Sequence[int]) -> None:
    conv.in_channels = conv.out_channels = conv.groups = len(kept)
    conv.weight = nn.Parameter(conv.weight[kept])
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias[kept])


def followed(model: nn.Module, *, hide: bool = True) -> None:
    """Write ``model`` so that it can be followed, in place.

    Args:
        model: of waveedge's own blocks.
        hide: WTConv layers, too. Gradients do not pass through those that are hidden.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LadderBlock):
            model.set_submodule(name, LadderOfConvolutions(module))
        elif hide and isinstance(module, WTConv2d):
            model.set_submodule(name, Hidden(module))


def restore(model: nn.Module) -> None:
    """Write ``model`` as it was before :func:`followed`, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LadderOfConvolutions):
            model.set_submodule(name, module.restored())
        elif isinstance(module, Hidden):
            model.set_submodule(name, module.layer)
