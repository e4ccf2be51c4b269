"""What an error of a layer's outputs does to the network's outputs.

To second order, an error d of a layer's outputs costs d^T G d, with G = J^T J and J the Jacobian
from there to the network's outputs, each over the root of its power on all images. G is estimated
by gradients of random sums of the network's outputs (Hutchinson), one matrix a layer: the sum of
what it is at every position, as if errors at different positions did not depend on each other (as
in K-FAC, Martens and Grosse, arXiv 1503.05671).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from waveedge.compression.keeper import Keeper
from waveedge.compression.lockstep import elements
from waveedge.compression.reparameterize import Shapes
from waveedge.decibels import power
from waveedge.normalise import flat_outputs
from waveedge.reference import run

__all__ = ["observe_metrics"]

_DRAWS = 4
"""Random sums of the outputs of one image."""
_FLOOR = 1e-3
"""Of the mean over outputs: what one counts that these images show to be of no consequence."""
_MEMORY = 1 << 31
"""Bytes that all values of one image may take, which gradients need at the same time."""


def observe_metrics(
    graph: fx.GraphModule,
    values: dict[fx.Node, int],
    images: Sequence[NDArray[np.float32]],
) -> dict[fx.Node, Tensor]:
    """Estimate the metric of the outputs of some layers.

    Args:
        graph: a network in floating point.
        values: where the channels of the layers' outputs are: the dimension.
        images: (1, C, H, W) float32.

    Returns:
        (channels, channels) float64, positive definite, by node. Those are missing that nothing
        shows to matter, and all of them where an operation has no gradient, or memory is short.
    """
    shapes = Shapes(graph, images[0].shape)
    if 4 * sum(elements(shapes[node]) for node in graph.graph.nodes) > _MEMORY:
        return {}
    sums: dict[fx.Node, Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    outputs = zip(*(run(graph, image) for image in images), strict=True)
    powers = [sum(map(power, output)) for output in outputs]
    roots = [max(value, 1e-30) ** 0.5 for value in powers]
    try:
        for image in images:
            _add(sums, graph, values, image, roots, generator)
    except RuntimeError:  # an operation of the user's own
        return {}
    return {
        node: metric + _FLOOR * level * torch.eye(len(metric), dtype=metric.dtype)
        for node, metric in sums.items()
        if 0 < (level := float(metric.diagonal().mean())) < math.inf
    }


@torch.enable_grad()
def _add(
    sums: dict[fx.Node, Tensor],
    graph: fx.GraphModule,
    values: dict[fx.Node, int],
    image: NDArray[np.float32],
    roots: Sequence[float],
    generator: torch.Generator,
) -> None:
    """Add what one image shows."""
    keeper = Keeper(graph, values)
    x = torch.from_numpy(image).to(next(graph.parameters())).requires_grad_(True)
    outputs = flat_outputs(keeper.run(x))
    scaled = [y / root for y, root in zip(outputs, roots, strict=True) if y.requires_grad]
    kept = {node: value for node, value in keeper.kept.items() if value.requires_grad}
    if not scaled or not kept:
        return
    for _ in range(_DRAWS):
        heads = [torch.randn(y.shape, generator=generator).to(y) for y in scaled]
        found = torch.autograd.grad(
            scaled, list(kept.values()), heads, retain_graph=True, allow_unused=True
        )
        for node, gradient in zip(kept, found, strict=True):
            if gradient is not None:
                rows = gradient.movedim(values[node], -1).flatten(0, -2).double()
                sums[node] = sums.get(node, 0) + rows.T @ rows
