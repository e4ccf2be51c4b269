"""Weights rounded together, so that their errors cancel in what the layer computes.

Rounding every weight to its nearest grid point adds up: on an input with a large mean, the errors
of a filter's taps become an error of its gain. Here a weight is rounded, and the weights that are
still to be rounded take over its error as well as the inputs allow (Frantar et al., "GPTQ",
arXiv 2210.17323, after LeCun's optimal brain surgeon). What the inputs allow is in their second
moments on the calibration images.

The network is walked once, in execution order, with all images at once and with the float network
beside it. For the inputs that the quantized network before it really gives, every layer

1. is refitted to the float network's outputs, by least squares drawn towards its own weights: it
   makes up for errors of the layers before it. With fewer samples than inputs (a linear layer has
   one an image), it would learn the samples, and is not;
2. is rounded;
3. takes out what is left of the mean error of every channel with its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from waveedge.compression.lockstep import correct_mean, in_lockstep
from waveedge.compression.patches import damped, sample
from waveedge.nn import PixelCopy, WeightQuantizer

__all__ = ["put_on_grid", "quantizes", "round_weights", "rounded"]

_DAMPING = 0.01
"""Share of the mean second moment that every input gets on top: noise, and what was never seen."""
_BLOCK = 128
"""Columns whose errors are handed on together."""

Progress = Callable[[int, int], None]


@torch.no_grad()
def round_weights(
    graph: fx.GraphModule,
    reference: fx.GraphModule,
    images: Sequence[NDArray[np.float32]],
    progress: Progress | None = None,
) -> None:
    """Round the weights of every layer of ``graph`` that quantizes its weight, in place.

    Afterwards the weights are grid points, so that rounding them again changes nothing. The
    activation quantizers must be calibrated.

    Args:
        graph: the quantized network; its nodes are those of ``reference`` and quantizers.
        reference: the same network in floating point.
        images: calibration inputs (1, C, H, W); of those of the first one's size, as many are used
            as memory allows.
        progress: called with (nodes done, nodes in all).
    """
    done: set[nn.Module] = set()
    for step in in_lockstep(graph, reference, images):
        layer = step.layer
        if layer is not None and layer not in done and quantizes(layer):
            _round_layer(layer, step.inputs[0], step.wanted)
            correct_mean(step)
            done.add(layer)
        if progress is not None:
            progress(*step.share)


def rounded(weight: Tensor, scale: Tensor, qmax: int, moments: Tensor) -> Tensor:
    """Round a matrix to a grid so that its product with typical inputs changes least.

    Args:
        weight: (groups, rows, columns) float.
        scale: (groups, rows), the step of each row.
        qmax: the grid is ``scale * {-qmax .. qmax}``.
        moments: (groups, columns, columns), second moments of the inputs of each group.

    Returns:
        the rounded weight, float64, on the grid.
    """
    weight, step = weight.double(), scale.double().unsqueeze(-1)
    columns = weight.shape[-1]
    # Columns with the largest inputs go first, while all the others can still make up for them.
    order = moments.diagonal(dim1=-2, dim2=-1).argsort(dim=-1, descending=True, stable=True)
    rows_in_order = order.unsqueeze(1).expand_as(weight)
    work = weight.gather(2, rows_in_order)
    factor = _factor(moments.double(), order)
    result = torch.empty_like(work)
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        errors = torch.empty_like(work[..., start:stop])
        for column in range(start, stop):
            exact = work[..., column : column + 1]
            point = torch.round(exact / step).clamp(-qmax, qmax) * step
            error = (exact - point) / factor[:, column, column, None, None]
            work[..., column:stop] -= error * factor[:, None, column, column:stop]
            result[..., column : column + 1] = point
            errors[..., column - start : column - start + 1] = error
        work[..., stop:] -= errors @ factor[:, start:stop, stop:]
    return torch.empty_like(result).scatter(2, rows_in_order, result)


def _factor(moments: Tensor, order: Tensor) -> Tensor:
    """Upper Cholesky factor of the damped inverse: row c says how error moves on from column c."""
    # With rows and columns in reverse, H = L L' is H = R R' with R upper: the inverse is U' U
    # with U the inverse of R.
    order = order.flip(1)
    moments = moments.gather(1, order.unsqueeze(2).expand_as(moments))
    moments = moments.gather(2, order.unsqueeze(1).expand_as(moments))
    lower = torch.linalg.cholesky(damped(moments, _DAMPING))
    unit = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
    return inverse.flip(1, 2)


def _round_layer(module: Any, x: Tensor, wanted: Tensor) -> None:
    samples = sample(module, x, wanted)
    if samples is None:
        return
    quantizer: WeightQuantizer = module.weight_quantizer
    moments = samples.moments()
    weight = module.weight.reshape(len(moments), -1, moments.shape[-1]).double()
    if samples.enough:
        weight = samples.fitted(weight)
        quantizer.fit(weight.reshape_as(module.weight))
    scale = quantizer.scale.reshape(len(moments), -1)
    module.weight.copy_(rounded(weight, scale, quantizer.qmax, moments).reshape_as(module.weight))
    put_on_grid(module)


@torch.no_grad()
def put_on_grid(module: Any) -> None:
    """Round the weight of a layer that quantizes it, in place, each to its nearest grid point.

    By way of the integers, so that a saved network is this one to the last bit.
    """
    quantizer: WeightQuantizer = module.weight_quantizer
    integers = quantizer.integers(module.weight)
    shape = [-1 if dim == quantizer.axis else 1 for dim in range(integers.dim())]
    module.weight.copy_(integers * quantizer.scale.reshape(shape))


def quantizes(module: nn.Module) -> bool:
    """Whether a layer's weight is to be put on a grid; that of copies is on one, always."""
    quantizer = getattr(module, "weight_quantizer", None)
    return isinstance(quantizer, WeightQuantizer) and not isinstance(module, PixelCopy)
