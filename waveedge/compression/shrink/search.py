"""The forms that a network might have, and what they would cost its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.costs import CostProfile
from waveedge.compression.graph_queries import layer_of
from waveedge.compression.reparameterize import Shapes
from waveedge.compression.sampling import enough
from waveedge.compression.shrink.bottleneck import Bottleneck
from waveedge.compression.shrink.forms import Form, PairForm
from waveedge.compression.shrink.hidden import Hidden
from waveedge.compression.shrink.metrics import observe_metrics
from waveedge.compression.shrink.moments import observe_moments
from waveedge.compression.shrink.pairs import Layer, Pair, find_pairs
from waveedge.decibels import power
from waveedge.duplicates import duplicate
from waveedge.macs import layer_macs
from waveedge.reference import run

__all__ = ["find_forms", "gains", "output_error", "probes", "samples"]

_SAMPLES, _PROBES = 8, 2
_PROBED = 2**13
"""Pixels of images to probe with: each form is run on them."""
_PROBE_LOSS = 1e-2
"""Of what all channels carry: a loss that the output shows, and that is small all the same."""


def samples(images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Images to take moments on."""
    return enough(images, _SAMPLES)


def probes(images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Images to measure on what a loss costs."""
    return enough(images, _PROBES, _PROBED)


def find_forms(
    graph: fx.GraphModule,
    images: Sequence[NDArray[np.float32]],
    prices: CostProfile,
    keep: Collection[str] = (),
) -> list[PairForm]:
    """Every form that a network might have, and what its sizes lose.

    Args:
        graph: the network in floating point.
        images: (1, C, H, W) float32.
        prices: of the device that it shall run on.
        keep: names of layers that stay as they are.
    """
    pairs = list(find_pairs(graph, keep))
    if not pairs:
        return []
    shapes = Shapes(graph, images[0].shape)
    looked_at: dict[fx.Node, int] = {}
    for pair in pairs:
        looked_at[pair.writer if pair.linear else pair.read] = _channels(graph, pair)
    moments = observe_moments(graph, looked_at, images)
    metrics = observe_metrics(
        graph, {pair.reader: _channels(graph, pair) for pair in pairs}, images
    )
    forms: list[PairForm] = []
    for pair in pairs:
        reader: Layer = layer_of(graph, pair.reader)  # type: ignore[assignment]
        form: PairForm
        if pair.linear:
            form = Bottleneck(pair, reader, moments[pair.writer], metrics.get(pair.reader))
        else:
            form = Hidden(pair, reader, moments[pair.read], metrics.get(pair.reader))
        products = sum(layer_macs(layer_of(graph, node), shapes[node]) for node in pair.layers)
        elements = sum(math.prod(shapes[node]) for node in (pair.writer, *pair.between))
        form.price = products + 2 * prices.element * elements
        forms.append(form)
    return forms


def _channels(graph: fx.GraphModule, pair: Pair) -> int:
    """Where both layers of a pair have their channels."""
    return -1 if isinstance(layer_of(graph, pair.writer), nn.Linear) else 1


def gains(
    graph: fx.GraphModule, forms: Sequence[Form], images: Sequence[NDArray[np.float32]]
) -> list[float]:
    """The relative squared error of the network's output for a loss of 1, of each form alone.

    Args:
        graph: the network in floating point.
        forms: of it.
        images: (1, C, H, W) float32.
    """
    wanted = [run(graph, image) for image in images]
    found = []
    for form in forms:
        small = form.losses <= _PROBE_LOSS * float(form.losses[0])
        losing = form.losses > 0
        probes = (small & losing).nonzero().flatten()
        if not len(probes):  # few channels, and each of them counts
            probes = losing[1:].nonzero().flatten().flip(0) + 1
        if not len(probes):
            found.append(0.0)
            continue
        probe = int(probes[0])
        trial = duplicate(graph)
        form.apply(trial, probe)
        found.append(output_error(trial, images, wanted) / float(form.losses[probe]))
    return found


def output_error(
    network: Callable[[Tensor], object],
    images: Sequence[NDArray[np.float32]],
    wanted: Sequence[Sequence[Tensor]],
) -> float:
    """Power of the error over power of the output, summed over outputs; inf where not finite."""
    found = [run(network, image) for image in images]
    error = 0.0
    for reference, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True):
        noise = sum(power(a - b) for a, b in zip(reference, other, strict=True))
        error += noise / max(sum(map(power, reference)), 1e-30)
    return error if np.isfinite(error) else float("inf")
