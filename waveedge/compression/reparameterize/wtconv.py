"""Wavelet convolutions band by band, with their scales folded."""

from __future__ import annotations

import operator

import torch.nn.functional as F
from torch import Tensor, fx, nn

from waveedge.macs import layer_macs, wtconv_macs
from waveedge.nn import WTConv2d
from waveedge.normalise.modules import set_module

from .graph_builder import Builder
from .rewrite import Applied, Rewrite, Shapes, new_conv, prune, source, split
from .spans import Span

__all__ = ["BandWise", "WTConv"]


class BandWise(nn.Module):
    """Stands under the name of a WTConv2d and holds the layers that it is rewritten to."""


class WTConv(Rewrite):
    """The published layer transforms to 4 C interleaved bands by a grouped convolution, which
    runtimes run slowly; depthwise convolutions they run fast. And it is linear, so that its scales
    are factors of its kernels.

    Rules:

    1. A Haar level becomes four depthwise 2x2 convolutions of stride 2, one a band, each followed
       by its own depthwise kernel; the low one also feeds the next level.
    2. On the way back the level below is added to the low band; the four bands are joined channel
       by channel and one grouped transposed convolution inverts the level.
    3. Channel scales are folded into the depthwise kernels, the stride into the base convolution.

    Longer wavelets (whose filters overlap) and even kernels (whose padding is lopsided) are left
    alone.
    """

    name = "wtconv"

    def apply(self, graph_module: fx.GraphModule, shapes: Shapes) -> list[Applied]:
        applied = []
        for node, layer in self.modules(graph_module, WTConv2d):
            if layer.wt_filter.shape[-1] != 2 or layer.kernel_size % 2 == 0:
                continue
            size = shapes[source(node)]
            build = Builder(graph_module, node)
            set_module(graph_module, str(node.target), BandWise())
            result = _Expansion(build, str(node.target), layer).expand(source(node), size[2:])
            node.replace_all_uses_with(result)
            prune(node)
            before, _ = wtconv_macs(layer, size[2:])
            base, out = layer.base_conv, shapes[node]
            after = before - layer_macs(base, size) + layer_macs(base, out)  # rule 3
            applied.append(Applied("wtconv.1", str(node.target), before, after))
        return applied


class _Expansion:
    def __init__(self, build: Builder, name: str, layer: WTConv2d) -> None:
        self.build = build
        self.name = name
        self.layer = layer

    def expand(self, x: fx.Node, size: tuple[int, int]) -> fx.Node:
        """All levels down, all levels up, and the convolution of the image itself."""
        levels, low = [], x
        for level in range(self.layer.wt_levels):
            low, bands = self._down(level, low, size)
            levels.append((bands, size))
            size = (size[0] + 1) // 2, (size[1] + 1) // 2
        deeper: fx.Node | None = None
        for level, (bands, size) in reversed(list(enumerate(levels))):
            if deeper is not None:
                bands[0] = self.build.total([bands[0], deeper])
            deeper = self._up(level, bands, size)
        assert deeper is not None
        base, stride = self.layer.base_conv, self.layer.stride
        scale = self.layer.base_scale.weight.flatten()
        bias = None if base.bias is None else base.bias.double() * scale.double()
        image = self._depthwise("base_conv", x, base.weight, scale, bias, stride=stride)
        if stride > 1:
            steps = (slice(None), slice(None), slice(None, None, stride), slice(None, None, stride))
            deeper = self.build.function(operator.getitem, deeper, steps)
        return self.build.total([image, deeper])

    def _down(
        self, level: int, low: fx.Node, size: tuple[int, int]
    ) -> tuple[fx.Node, list[fx.Node]]:
        if size[0] % 2 or size[1] % 2:
            low = self.build.function(F.pad, low, [0, size[1] % 2, 0, size[0] % 2])
        channels = self.layer.in_channels
        analysis = split(self.layer.wt_filter, channels)
        kernels = split(self.layer.get_parameter(f"wavelet_convs.{level}.weight"), channels)
        scales = split(self.layer.get_parameter(f"wavelet_scale.{level}.weight"), channels, 1)
        coefficients, filtered = [], []
        for band in range(4):
            label = f"{level}_{['low', 'high_h', 'high_w', 'high_hw'][band]}"
            conv = new_conv(
                analysis[:, band], None, self.layer, stride=2, groups=self.layer.in_channels
            )
            coefficients.append(self.build.module(f"{self.name}.analysis_{label}", conv, low))
            filtered.append(
                self._depthwise(
                    f"conv_{label}",
                    coefficients[-1],
                    kernels[:, band],
                    scales[:, :, band].flatten(),
                    None,
                )
            )
        return coefficients[0], filtered

    def _up(self, level: int, bands: list[fx.Node], size: tuple[int, int]) -> fx.Node:
        channels = self.layer.in_channels
        # The rows of a channel's bands below each other, read as 4 channels: a stack, in two steps.
        rows = self.build.method("unflatten", self.build.join(bands, 2), 2, (4, -1))
        joined = self.build.method("flatten", rows, 1, 2)
        synthesis = nn.ConvTranspose2d(
            4 * channels, channels, 2, stride=2, groups=channels, bias=False
        )
        synthesis.weight = nn.Parameter(self.layer.iwt_filter.detach().clone())
        result = self.build.module(f"{self.name}.synthesis_{level}", synthesis, joined)
        return self.build.window(
            result, None, *(Span(0, extent, extent + extent % 2) for extent in size)
        )

    def _depthwise(
        self,
        label: str,
        x: fx.Node,
        weight: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        stride: int = 1,
    ) -> fx.Node:
        scaled = weight.double() * scale.double().view(-1, 1, 1, 1)
        options = {"padding": self.layer.kernel_size // 2, "groups": self.layer.in_channels}
        conv = new_conv(scaled, bias, self.layer, stride=stride, **options)
        return self.build.module(f"{self.name}.{label}", conv, x)
