"""Layers whose 8-bit grids cost the network too much stay in floating point.

Some networks do to errors of rounding what they do to details: they enlarge them. A normalisation
divides by a small deviation; a Fourier transform puts the mean of a map into one value, which
leaves the others a few grid points. There a few layers cost more than all the others together.

1. This is for networks of 8 bits whose output is below a target on a few calibration images. Fewer
   bits are what the user asked for, and their loss is not one of single layers.
2. Every layer is tried alone: what the grids that it reads and writes do to the output, with all
   other values in floating point. Errors of rounding hardly depend on each other, so these costs
   add up.
3. The costliest layers go, one after another, until the output reaches the target; a grid goes with
   the last layer that reads or writes it. Where the target is not reached even without any grid,
   something else is to blame, and all layers stay.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.graph_queries import has_weights, is_clamp, layer_of
from waveedge.compression.report import LOW_DB
from waveedge.decibels import power, ratio_db
from waveedge.nn import ActivationQuantizer
from waveedge.reference import run

__all__ = ["costly_layers"]

_TARGET_DB = LOW_DB + 2
"""Other images fare a little worse than those that are looked at here."""
_IMAGES = 4

_Outputs = list[list[Tensor]]
"""The tensors that a network yields, for every image."""


@torch.no_grad()
def costly_layers(
    graph: fx.GraphModule, plain: fx.GraphModule, images: Sequence[NDArray[np.float32]]
) -> dict[str, str]:
    """Find the layers to leave in floating point; see the module's head.

    Args:
        graph: the quantized network, calibrated; it is left as it is.
        plain: the same network in floating point.
        images: (1, C, H, W) calibration images; some of them are looked at.

    Returns:
        why, by the layer's name, the costliest first; nothing where the output is near enough.
    """
    images = images[:: -(-len(images) // _IMAGES)]
    wanted = _outputs(plain, images)
    if _snr_db(wanted, _outputs(graph, images)) >= _TARGET_DB:
        return {}
    grids = _grids(graph)
    try:
        _enable_only(grids, ())
        floats = _outputs(graph, images)
        if _snr_db(wanted, floats) < _TARGET_DB:
            return {}
        costs: dict[str, float] = {}
        for name in {name: None for touching in grids.values() for name in touching}:
            _enable_only(grids, [grid for grid, touching in grids.items() if name in touching])
            costs[name] = _snr_db(floats, _outputs(graph, images))
        found: dict[str, str] = {}
        for name in sorted(costs, key=costs.__getitem__):
            found[name] = f"its 8-bit grids alone leave the output {costs[name]:.1f} dB"
            left = [grid for grid, touching in grids.items() if not touching <= found.keys()]
            _enable_only(grids, left)
            if _snr_db(wanted, _outputs(graph, images)) >= _TARGET_DB:
                break
        return found
    finally:
        _enable_only(grids, grids)


def _grids(graph: fx.GraphModule) -> dict[ActivationQuantizer, set[str]]:
    """The quantizers between layers, and the names of the layers that read or write each."""
    found: dict[ActivationQuantizer, set[str]] = {}
    for node in graph.graph.nodes:
        grid = layer_of(graph, node)
        if isinstance(grid, ActivationQuantizer):
            value = node.all_input_nodes[0]
            writer = value.all_input_nodes[0] if is_clamp(graph, value) else value
            beside = [str(n.target) for n in (writer, *node.users) if has_weights(graph, n)]
            found.setdefault(grid, set()).update(beside)
    return {grid: layers for grid, layers in found.items() if layers}


def _enable_only(
    grids: Iterable[ActivationQuantizer], enabled: Collection[ActivationQuantizer]
) -> None:
    for grid in grids:
        grid.enabled = grid in enabled


def _outputs(network: nn.Module, images: Sequence[NDArray[np.float32]]) -> _Outputs:
    return [run(network, image) for image in images]


def _snr_db(wanted: _Outputs, found: _Outputs) -> float:
    """The signal-to-noise ratio of the worst output over all images."""
    worst = math.inf
    for reference, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True):
        noise = sum(power(a - b) for a, b in zip(reference, other, strict=True))
        if noise:
            worst = min(worst, ratio_db(sum(map(power, reference)), noise))
    return worst
