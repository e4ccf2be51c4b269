"""Which layers of a traced network are quantized, and to how many bits.

Where their inputs and outputs get quantizers is decided after that, by the rules of
:mod:`waveedge.compression.placement`.

A wavelet convolution (WTConv) stays in floating point unless the recipe's ``layers`` give it bits:
its depthwise kernels take onnxruntime twice as long in int8 as in float, for a few percent of a
network's multiply-adds.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import fx, nn

from waveedge.compression.graph_queries import layers
from waveedge.compression.placement import Placement
from waveedge.compression.recipe import CONTAINER_BITS, FLOAT, LayerSettings, Recipe
from waveedge.compression.reparameterize import BandWise, Shapes
from waveedge.nn import (
    PixelCopy,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
    QuantizedLinear,
)

__all__ = ["place_quantizers"]


def place_quantizers(
    graph: fx.GraphModule, shapes: Shapes, recipe: Recipe, wide: Collection[str] = ()
) -> dict[str, str]:
    """Quantize the weights of ``graph`` and insert activation quantizers, in place.

    Args:
        graph: the network in floating point.
        shapes: of its values.
        recipe: how many bits.
        wide: names of layers whose output is read in 8 bits where the recipe says fewer.

    Returns:
        for every layer with weights that stays in floating point, the reason.
    """
    bits, left_alone = _quantize_weights(graph, recipe)
    if any(bits.values()):
        Placement(graph, shapes, bits, wide).insert()
    graph.graph.lint()
    graph.recompile()
    return left_alone


def _quantize_weights(
    graph: fx.GraphModule, recipe: Recipe
) -> tuple[dict[str, int], dict[str, str]]:
    """Swap layers for quantized ones; return activation bits by node name (0: floats)."""
    weighted = [
        (node, module)
        for node, module in layers(graph)
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d)
    ]
    bits: dict[str, int] = {}
    left_alone: dict[str, str] = {}
    wavelets = tuple(
        f"{name}." for name, module in graph.named_modules() if isinstance(module, BandWise)
    )
    outer = _outer_layers(graph, {node for node, _ in weighted})
    for node, module in weighted:
        name = str(node.target)
        excluded = recipe.excluded(name)
        settings = recipe.settings(name)
        if excluded is None and name.startswith(wavelets) and not recipe.gives(name, "bits"):
            excluded = "depthwise kernels of a wavelet convolution are slower in int8"
        if excluded is not None:
            left_alone[name] = excluded
            continue
        if node in outer:
            settings = _at_least_container(settings)
        bits[node.name] = settings.bits if settings.bits != FLOAT else 0
        if settings.weight_bits != FLOAT and not isinstance(module, PixelCopy):
            graph.set_submodule(name, _quantized(module, settings.weight_bits))
    return bits, left_alone


def _outer_layers(graph: fx.GraphModule, weighted: set[fx.Node]) -> set[fx.Node]:
    """Layers between which and the input, or the output, of the network there is no other."""
    found: set[fx.Node] = set()
    # By direction: a skip around the whole network joins what the input and the output reach.
    seen: set[tuple[fx.Node, bool]] = set()
    inputs = [(node, True) for node in graph.graph.nodes if node.op == "placeholder"]
    outputs = [(node, False) for node in graph.graph.nodes if node.op == "output"]
    ways = inputs + outputs
    while ways:
        node, onward = ways.pop()
        if node in weighted:
            found.add(node)
        elif (node, onward) not in seen:
            seen.add((node, onward))
            ways += [(other, onward) for other in (node.users if onward else node.all_input_nodes)]
    return found


def _at_least_container(settings: LayerSettings) -> LayerSettings:
    return settings.model_copy(
        update={
            "bits": max(settings.bits, CONTAINER_BITS),
            "weight_bits": max(settings.weight_bits, CONTAINER_BITS),
        }
    )


def _quantized(module: nn.Module, weight_bits: int) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        return QuantizedConv2d.from_float(module, weight_bits)
    if isinstance(module, nn.ConvTranspose2d):
        return QuantizedConvTranspose2d.from_float(module, weight_bits)
    assert isinstance(module, nn.Linear)
    return QuantizedLinear.from_float(module, weight_bits)
