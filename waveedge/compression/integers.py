"""A network on integer grids: quantizers in their places, calibrated on images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import fx

from waveedge.calibration import calibrate_activations
from waveedge.compression.floats import costly_layers
from waveedge.compression.gelus import fit_gelus, place_gelus
from waveedge.compression.graph_queries import is_addition, layers
from waveedge.compression.grids import align_grids
from waveedge.compression.mixed import wide_layers
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import CONTAINER_BITS, FLOAT, Recipe
from waveedge.compression.reparameterize import Shapes
from waveedge.compression.zero_points import zero_points
from waveedge.duplicates import duplicate
from waveedge.nn import ActivationQuantizer, Selection

__all__ = ["Integers", "on_integers"]

Progress = Callable[[int, int], None]

_BITS = ("bits", "weight_bits")


@dataclass(frozen=True)
class Integers:
    """A quantized network, calibrated, its weights not yet rounded together.

    Attributes:
        graph: it.
        in_float: why layers were left in floating point although the recipe gives them bits, by
            name.
        in_eight: why layers have 8 bits although the recipe gives them fewer, by name.
    """

    graph: fx.GraphModule
    in_float: dict[str, str] = field(default_factory=dict)
    in_eight: dict[str, str] = field(default_factory=dict)


def on_integers(
    form: fx.GraphModule,
    plain: fx.GraphModule,
    images: Sequence[NDArray[np.float32]],
    recipe: Recipe,
    progress: Progress | None = None,
    wide: Collection[str] = (),
) -> Integers:
    """Quantize a network; layers that would cost it too much get more bits, or none.

    Args:
        form: the network with its WCC layers, in floating point; it is copied, not changed.
        plain: the same without approximations.
        images: calibration inputs (1, C, H, W).
        recipe: how many bits, and which layers to leave alone.
        progress: called with (images done, images in all).
        wide: names of layers whose output is read in 8 bits where the recipe says fewer.
    """
    graph = _calibrated(form, images, recipe, progress, wide)
    if recipe.bits == CONTAINER_BITS:
        in_float = costly_layers(graph, plain, images)
        if in_float:
            less = recipe.model_copy(update={"skip": (*recipe.skip, *in_float)})
            graph = _calibrated(form, images, less, progress, wide)
            return Integers(graph, in_float=in_float)
    if recipe.bits != FLOAT and not recipe.uniform:
        given = [name for name, _ in graph.named_modules() if recipe.gives(name, *_BITS)]
        found = wide_layers(graph, images, given)
        if found:
            bits = {name: item.bits for name, item in found.items()}
            more = recipe.model_copy(update={"layers": {**recipe.layers, **bits}})
            graph = _calibrated(form, images, more, progress, wide)
            return Integers(graph, in_eight={n: item.reason for n, item in found.items()})
    return Integers(graph)


def _calibrated(
    form: fx.GraphModule,
    images: Sequence[NDArray[np.float32]],
    recipe: Recipe,
    progress: Progress | None,
    wide: Collection[str],
) -> fx.GraphModule:
    graph = duplicate(form)
    place_quantizers(graph, Shapes(graph, images[0].shape), recipe, wide)
    place_gelus(graph, recipe)
    graph.eval()
    streams = _streams(graph)
    shifted = zero_points(graph, keep=streams)
    calibrate_activations(graph, images, covering=streams, shifted=shifted, progress=progress)
    align_grids(graph)
    fit_gelus(graph)
    return graph


def _streams(graph: fx.GraphModule) -> set[str]:
    """Names of the 8-bit grids of residual streams, in a network with WCC layers.

    These keep rewrites from doing without the streams. What a stream loses of one image is lost to
    all layers after it, and other images reach further than those that calibrate: a range of least
    mean error costs some photos 5 dB. Where few streams are left, it is the better one.
    """
    if not any(isinstance(module, Selection) for module in graph.modules()):
        return set()
    return {
        str(node.target)
        for node, module in layers(graph)
        if isinstance(module, ActivationQuantizer)
        and module.bits == CONTAINER_BITS
        and any(map(is_addition, (*node.all_input_nodes, *node.users)))
    }
