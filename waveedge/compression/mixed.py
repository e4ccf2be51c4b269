"""Mixed precision: below 8 bits, the few layers that hold most of the loss keep 8.

What few bits cost is spread unevenly: of the 57 narrow grids of the brain's segmenter three hold
half of it. Runtimes compute fewer bits in 8-bit containers, so that 8 bits for those layers cost
no time.

1. What every narrow grid alone does to the output is measured on calibration images, with nothing
   else narrow; and likewise what the narrow weights of every layer do. Errors of rounding hardly
   depend on each other, so these costs add up.
2. The costliest go to 8 bits, one after another, until the others hold little of the sum; but never
   more than a few, since what the user asked for is fewer bits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from waveedge.compression.graph_queries import has_weights, layer_of
from waveedge.compression.recipe import CONTAINER_BITS, LayerOverride
from waveedge.compression.shrink import output_error
from waveedge.nn import ActivationQuantizer, WeightQuantizer
from waveedge.reference import run

__all__ = ["Wide", "wide_layers"]

_IMAGES = 2
_REST = 1 / 3
"""Of the sum of all costs: what those that stay narrow may hold."""
_MOST = 1 / 4
"""Of all grids, and of all layers with narrow weights: what may be widened. At 4 bits, untuned, an
eighth instead loses 0.7 points more on the Fashion-MNIST example, and 0.02 dB on the others."""


@dataclass(frozen=True)
class Wide:
    """A layer that gets 8 bits: which of its bits, and why."""

    bits: LayerOverride
    reason: str


@dataclass
class _Narrow:
    """Something with fewer than 8 bits: a grid, or the weights of a layer.

    Attributes:
        field: which of a layer's bits these are.
        layers: names of the layers that read the grid, or of the one that has the weights.
        cost: squared error over power of the output, with nothing else narrow.
    """

    field: Literal["bits", "weight_bits"]
    layers: list[str]
    grid: ActivationQuantizer | WeightQuantizer
    cost: float = 0.0


@torch.no_grad()
def wide_layers(
    graph: fx.GraphModule, images: Sequence[NDArray[np.float32]], given: Collection[str] = ()
) -> dict[str, Wide]:
    """Find the layers that get 8 bits; see the module's head.

    Args:
        graph: the quantized network, calibrated; it is left as it is.
        images: (1, C, H, W) calibration images; some of them are looked at.
        given: names of layers whose bits the user has given: they keep those.

    Returns:
        by the layer's name.
    """
    narrow = _narrow(graph, given)
    images = images[:: -(-len(images) // _IMAGES)]
    try:
        for item in narrow:
            item.grid.enabled = False
        exact = [run(graph, image) for image in images]
        for item in narrow:
            item.grid.enabled = True
            item.cost = output_error(graph, images, exact)
            item.grid.enabled = False
    finally:
        for item in narrow:
            item.grid.enabled = True
    found: dict[str, Wide] = {}
    for field, what in (("bits", "activations"), ("weight_bits", "weights")):
        alike = [item for item in narrow if item.field == field]
        total = sum(item.cost for item in alike)
        for item in _costliest(alike, total):
            reason = f"its {what} hold {item.cost / total:.0%} of what fewer bits cost"
            for name in item.layers:
                before = found.get(name, Wide(LayerOverride(), ""))
                bits = before.bits.model_copy(update={field: CONTAINER_BITS})
                found[name] = Wide(bits, f"{before.reason}; {reason}".removeprefix("; "))
    return found


def _costliest(alike: Sequence[_Narrow], total: float) -> list[_Narrow]:
    """Those that hold most of ``total``, if few do."""
    chosen: list[_Narrow] = []
    rest = total
    for item in sorted(alike, key=lambda item: -item.cost)[: round(_MOST * len(alike))]:
        if rest <= _REST * total:
            break
        chosen.append(item)
        rest -= item.cost
    return chosen


def _narrow(graph: fx.GraphModule, given: Collection[str]) -> list[_Narrow]:
    """All grids and weights of fewer than 8 bits that layers of the graph have or read."""
    grids: dict[ActivationQuantizer, list[str]] = {}
    found = []
    for node in graph.graph.nodes:
        layer = layer_of(graph, node)
        if isinstance(layer, ActivationQuantizer) and layer.bits < CONTAINER_BITS:
            readers = [str(user.target) for user in node.users if has_weights(graph, user)]
            grids.setdefault(layer, []).extend(readers)
        own = getattr(layer, "weight_quantizer", None)
        if isinstance(own, WeightQuantizer) and own.bits < CONTAINER_BITS:
            found.append(_Narrow("weight_bits", [str(node.target)], own))
    found += [_Narrow("bits", readers, grid) for grid, readers in grids.items()]
    return [item for item in found if item.layers and not set(item.layers) & set(given)]
