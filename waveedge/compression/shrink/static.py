"""Static WCC: 1x1 convolutions that read a share of their inputs, chosen once, at calibration.

The published selection keeps, of every image anew, the strongest positions of a wavelet transform.
This one keeps the same inputs for every image: channels, and where the network has a Haar transform
of its own before the layer or behind it, (channel, subband) pairs (:mod:`.bands`), or principal
directions of either, where these do as well (:mod:`.directions`). What is not read is a column of
zeros, so that the layer stays a dense convolution, which every rewrite and every runtime knows.

1. Inputs go one after another, the least missed first, the others refitted (:mod:`.elimination`).
2. The ratio is that of the coefficients of all such layers together. Which layer gives how many
   away is decided as for channels: what they cost the output, measured, against how many they are.
3. They go in rounds, since what a layer can do without depends on what the others do without; after
   each, all layers are fitted to what they gave before the first (:mod:`.refit`).
4. Channels that nothing reads any more are not computed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.costs import CPU, CostProfile
from waveedge.compression.graph_queries import layer_of, layers
from waveedge.compression.reparameterize import Shapes, calls
from waveedge.compression.shrink.allocate import allocate, options_of
from waveedge.compression.shrink.bands import Bands
from waveedge.compression.shrink.directions import Directions
from waveedge.compression.shrink.elimination import Inputs
from waveedge.compression.shrink.forms import Form
from waveedge.compression.shrink.metrics import observe_metrics
from waveedge.compression.shrink.moments import Moments, observe_moments
from waveedge.compression.shrink.pairs import Layer, by_input, find_pairs, set_weight
from waveedge.compression.shrink.refit import refit
from waveedge.compression.shrink.search import gains, probes, samples
from waveedge.duplicates import duplicate

__all__ = ["Kept", "drop_unread", "select_inputs"]

_ROUNDS = 5
"""Of choices, each of which leaves out the same share of what is left. One choice instead gives 0.5
dB less of the classifier example's output at half of the coefficients, and 0.3 of the brain's."""


class Kept(NamedTuple):
    """What a layer reads.

    Attributes:
        inputs: how many.
        positions: of one image, in each of them.
        writer: the name of the layer that yields principal directions for it, if one does.
    """

    inputs: int
    positions: int
    writer: str | None = None


class _Inputs(Form):
    """The inputs that a layer reads; the price of each is how many coefficients it is."""

    def __init__(self, name: str, conv: nn.Conv2d, moments: Moments, metric: Tensor | None) -> None:
        self.name = name
        self.positions = moments.positions
        columns = _columns(conv)
        self.channels = len(columns)
        self._inputs = Inputs(conv, moments, columns, metric)
        self.losses, self.noise = self._inputs.losses, self._inputs.noise
        self.price = float(self.channels * moments.positions)

    def apply(self, graph: fx.GraphModule, channels: int) -> None:
        """See :class:`~waveedge.compression.shrink.forms.Form`."""
        conv: nn.Conv2d = graph.get_submodule(self.name)  # type: ignore[assignment]
        set_weight(conv, *self._inputs.refitted(conv, channels))


@torch.no_grad()
def select_inputs(
    graph: fx.GraphModule,
    names: Collection[str],
    coefficients: float,
    images: Sequence[NDArray[np.float32]],
    prices: CostProfile = CPU,
    keep: Collection[str] = (),
) -> dict[str, Kept]:
    """Leave out inputs of 1x1 convolutions, in place.

    Args:
        graph: a network in floating point.
        names: of the convolutions.
        coefficients: of one image, that all of them together may read.
        images: (1, C, H, W) float32.
        prices: of the device that the network shall run on.
        keep: names of layers that stay as they are.

    Returns:
        by the layer's name, what it reads.
    """
    if not names:
        return {}
    bands = Bands(graph, names, images[0].shape, prices, keep)
    chosen = {str(node.target): node for node, _ in layers(graph) if node.target in names}
    alone = [name for name in chosen if len(calls(graph.graph, name)) == 1]
    kept = _reading(graph, chosen, images[0].shape)
    if sum(one.inputs * one.positions for one in kept.values()) <= coefficients:
        bands.settle()
        return kept
    seen = samples(images)
    directions = Directions(graph, [chosen[name] for name in alone], seen, bands.maps, keep)
    before = duplicate(graph)
    for left in reversed(range(_ROUNDS)):
        forms = _forms(graph, chosen, seen)
        costs = gains(graph, forms, probes(images))
        options = [options_of(form, gain, 1) for form, gain in zip(forms, costs, strict=True)]
        had = sum(form.price for form in forms)
        goal = coefficients * max(had / coefficients, 1.0) ** (left / (left + 1))
        counts = allocate(options, price=goal)
        for form, count in zip(forms, counts, strict=True):
            if count < form.channels:
                form.apply(graph, count)
            kept[form.name] = Kept(count, form.positions)
        refit(graph, before, seen, alone)
    for name, writer in directions.settle().items():
        kept[name] = kept[name]._replace(writer=writer)
    bands.settle()
    return kept


def _forms(
    graph: fx.GraphModule, chosen: dict[str, fx.Node], images: Sequence[NDArray[np.float32]]
) -> list[_Inputs]:
    """What each of the layers reads now."""
    read = {name: node.all_input_nodes[0] for name, node in chosen.items()}
    seen = observe_moments(graph, dict.fromkeys(read.values(), 1), images)
    metrics = observe_metrics(graph, dict.fromkeys(chosen.values(), 1), images)
    return [
        _Inputs(name, graph.get_submodule(name), seen[read[name]], metrics.get(node))  # type: ignore[arg-type]
        for name, node in chosen.items()
    ]


def _reading(
    graph: fx.GraphModule, chosen: dict[str, fx.Node], image: tuple[int, ...]
) -> dict[str, Kept]:
    """What each of the layers reads before any choice."""
    shapes = Shapes(graph, image)
    return {
        name: Kept(len(_columns(graph.get_submodule(name))), math.prod(shapes[node][2:]))  # type: ignore[arg-type]
        for name, node in chosen.items()
    }


def _columns(conv: nn.Conv2d) -> Tensor:
    """(channels, 1) the inputs that a layer reads."""
    read = conv.weight.detach()[:, :, 0, 0].any(0)
    return (read if read.any() else ~read).nonzero()  # of a layer of zeros, all


def drop_unread(graph: fx.GraphModule, keep: Collection[str] = ()) -> None:
    """Leave out channels whose every weight in the layer that reads them is zero, in place. Exact.

    Args:
        graph: a network in floating point.
        keep: names of layers that stay as they are.
    """
    for pair in reversed(list(find_pairs(graph, keep))):  # what a writer drops, it reads no more
        writer: Layer = layer_of(graph, pair.writer)  # type: ignore[assignment]
        reader: Layer = layer_of(graph, pair.reader)  # type: ignore[assignment]
        weight = by_input(reader)
        read = weight[pair.columns].flatten(1).any(1).nonzero().flatten()
        if 0 < len(read) < len(pair.columns):
            set_weight(reader, weight[pair.columns[read].T.flatten()], reader.bias)
            bias = None if writer.bias is None else writer.bias[read]
            set_weight(writer, by_input(writer)[:, read], bias)
