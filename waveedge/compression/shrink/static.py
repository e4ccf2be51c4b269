"""Static WCC: 1x1 convolutions that read a share of their inputs, chosen once, at calibration.

The published selection keeps, of every image anew, the strongest positions of a wavelet transform.
This one keeps the same inputs for every image: channels, and where the network has a transform of
its own before the layer, (channel, subband) pairs. What is not read is a column of zeros, so that
the layer stays a dense convolution, which every rewrite and every runtime knows; channels that
nothing reads are then left out for nothing (:mod:`.hidden`).

1. Inputs go one after another, the least missed first, the others refitted (:mod:`.elimination`).
2. The ratio is that of the coefficients of all such layers together. Which layer gives how many
   away is decided as for channels: what they cost the output, measured, against how many they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from waveedge.compression.graph_queries import layers
from waveedge.compression.shrink.allocate import allocate, options_of
from waveedge.compression.shrink.elimination import Inputs
from waveedge.compression.shrink.forms import Form
from waveedge.compression.shrink.moments import Moments, observe_moments
from waveedge.compression.shrink.pairs import set_weight
from waveedge.compression.shrink.search import IMAGES, PROBES, gains

__all__ = ["select_inputs"]


class _Inputs(Form):
    """The inputs of one layer; the price of each is how many coefficients it is."""

    def __init__(self, name: str, conv: nn.Conv2d, moments: Moments, bits: int) -> None:
        self.name = name
        self.channels = conv.in_channels
        self._inputs = Inputs(conv, moments, torch.arange(self.channels).unsqueeze(1), bits)
        self.losses, self.noise = self._inputs.losses, self._inputs.noise
        self.price = float(self.channels * moments.positions)

    def apply(self, graph: fx.GraphModule, channels: int) -> None:
        """See :class:`~waveedge.compression.shrink.forms.Form`."""
        conv: nn.Conv2d = graph.get_submodule(self.name)  # type: ignore[assignment]
        set_weight(conv, *self._inputs.refitted(conv, channels))


@torch.no_grad()
def select_inputs(
    graph: fx.GraphModule,
    ratios: Mapping[str, float],
    images: Sequence[NDArray[np.float32]],
    bits: int,
) -> dict[str, tuple[int, int]]:
    """Leave out inputs of 1x1 convolutions, in place.

    Args:
        graph: the network in its normal form.
        ratios: by the names of the convolutions, the shares of input coefficients to keep, in
            (0, 1). All of them together keep as many as these ask for.
        images: (1, C, H, W) float32.
        bits: that their inputs will have.

    Returns:
        (inputs kept, inputs) by the layer's name.
    """
    reads = {
        str(node.target): node.all_input_nodes[0]
        for node, _ in layers(graph)
        if node.target in ratios
    }
    seen = observe_moments(graph, dict.fromkeys(reads.values(), 1), images[:IMAGES])
    forms = [
        _Inputs(name, graph.get_submodule(name), seen[value], bits)  # type: ignore[arg-type]
        for name, value in reads.items()
    ]
    costs = gains(graph, forms, images[:PROBES])
    options = [options_of(form, gain, 1) for form, gain in zip(forms, costs, strict=True)]
    chosen = allocate(options, price=sum(ratios[form.name] * form.price for form in forms))
    for form, channels in zip(forms, chosen, strict=True):
        form.apply(graph, channels)
    return {f.name: (count, f.channels) for f, count in zip(forms, chosen, strict=True)}
