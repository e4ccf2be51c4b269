"""Layers fitted anew to what they gave before those in front of them lost channels.

Layer after layer, for the inputs that the smaller network really gives. What a layer does not read,
it goes on not reading.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from waveedge.compression.lockstep import Step, correct_mean, in_lockstep
from waveedge.compression.patches import sample

__all__ = ["refit"]


@torch.no_grad()
def refit(
    graph: fx.GraphModule,
    reference: fx.GraphModule,
    images: Sequence[NDArray[np.float32]],
    names: Collection[str],
) -> None:
    """Fit layers of ``graph`` to the outputs of those of ``reference``, in place.

    Args:
        graph: a network in floating point that lost inputs of layers.
        reference: it before.
        images: (1, C, H, W) float32.
        names: of the layers, 1x1 convolutions.
    """
    for step in in_lockstep(graph, reference, images):
        if step.node.target in names and _fit(step):
            correct_mean(step)


def _fit(step: Step) -> bool:
    """Change the layer's weight; whether there was reason to."""
    layer = step.layer
    assert isinstance(layer, nn.Conv2d)
    step.found = layer(*step.inputs, **step.options)
    if step.found.shape != step.wanted.shape or torch.equal(step.found, step.wanted):
        return False
    samples = sample(layer, step.inputs[0], step.wanted)
    if samples is None:
        return False
    weight = layer.weight.flatten(1).double().unsqueeze(0)
    read = weight[0].any(0)
    samples = samples._replace(inputs=samples.inputs[..., read])
    if not samples.enough:
        return False
    weight[..., read] = samples.fitted(weight[..., read])
    layer.weight.copy_(weight.reshape_as(layer.weight))
    return True
