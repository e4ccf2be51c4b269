"""The main path of compression, top to bottom.

checkpoint -> choose WCC layers -> exact rewrites -> quantizers -> calibrate -> round -> measure
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from waveedge.calibration import ImageSet, calibrate_activations, open_images
from waveedge.compression.biases import round_biases
from waveedge.compression.centre import centre_images
from waveedge.compression.gelus import fit_gelus, place_gelus, separate_gelus
from waveedge.compression.grids import align_grids
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import FLOAT, Recipe, make_recipe
from waveedge.compression.reparameterize import Applied, Shapes, reparameterize
from waveedge.compression.reparameterize.trace import preserve
from waveedge.compression.report import CompressionReport, LayerReport, measure
from waveedge.compression.rounding import round_weights
from waveedge.compression.wavelet import LayerDecision, choose_layers, replace_layers
from waveedge.cost import Cost, LayerCost, profile
from waveedge.errors import ExportError, RecipeError
from waveedge.models.build import spec_of
from waveedge.nn import WaveletCompressedConv2d
from waveedge.spec import ModelSpec

__all__ = ["Compressed", "compress", "structure"]

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


@dataclass
class Compressed:
    """A compressed network with all that is needed to save, export and explain it.

    Attributes:
        graph: the network that runs in torch, in eval mode; carries ``spec``.
        spec: what the network is.
        recipe: what was asked for.
        decisions: what WCC did to every layer of the published network.
        input_size: (height, width) in pixels that calibration ran at.
        source_sha256: hash of the checkpoint file; empty for a network made in memory.
        source_name: name of the checkpoint file, without folder; empty likewise.
        calibration_sha256: fingerprint of the calibration images.
        report: what compression did, measured on held-out images.
    """

    graph: fx.GraphModule
    spec: ModelSpec
    recipe: Recipe
    decisions: list[LayerDecision]
    input_size: tuple[int, int]
    source_sha256: str
    source_name: str
    calibration_sha256: str
    report: CompressionReport

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network on ``x`` (N, C, H, W) without gradients."""
        with torch.no_grad():
            output: torch.Tensor = self.graph(x)
        return output


def compress(
    model: nn.Module,
    recipe: Recipe | None = None,
    *,
    images: ImageSet | None = None,
    progress: Progress | None = None,
    **fields: Any,
) -> Compressed:
    """Compress a trained network: Wavelet Compressed Convolution and low-bit quantization.

    Args:
        model: a network from :func:`waveedge.load`, in eval mode; it is not changed.
        recipe: what to do; or give its fields as keyword arguments (``bits=4, wcc_ratio=0.5``).
        images: calibration and held-out images; the built-in photos when None.
        progress: called as work goes on.

    Raises:
        RecipeError: a field makes no sense, or a pattern matches no layer.
        ExportError: the network cannot be traced, or a rewrite changed what it computes.
    """
    recipe = make_recipe(fields) if recipe is None else recipe
    spec = spec_of(model)
    images = images or open_images(None, spec=spec, seed=recipe.seed)
    size = (images.calibration[0].shape[-2], images.calibration[0].shape[-1])
    report_progress = progress or (lambda _what, _done, _total: None)

    report_progress("choosing layers", 0, 1)
    before = profile(model, size)
    decisions = choose_layers(model, before, recipe)
    graph, reference = structure(model, spec, recipe, decisions, size)
    _check_exact(model, reference, (images.held_out or images.calibration)[0])
    _check_patterns(recipe, [row.name for row in before.layers], graph)

    calibrate_activations(
        graph,
        images.calibration,
        progress=lambda done, total: report_progress("calibrating", done, total),
    )
    align_grids(graph)
    fit_gelus(graph)
    round_weights(
        graph,
        reference,
        images.calibration,
        progress=lambda done, total: report_progress("rounding weights", done, total),
    )
    round_biases(graph)
    report_progress("measuring", 0, 1)
    quality, snr = measure(reference, graph, images.held_out, spec.task)
    after = profile(graph, size)
    applied: tuple[Applied, ...] = graph.applied  # type: ignore[assignment]
    rows = tuple(_layer_report(graph, row, snr) for row in _weighted(after))
    # The size it was calibrated at is the one it runs at where nobody names another.
    spec = spec.model_copy(update={"input_size": size})
    preserve(graph, spec=spec)
    return Compressed(
        graph=graph,
        spec=spec,
        recipe=recipe,
        decisions=decisions,
        input_size=size,
        source_sha256=str(getattr(model, "source_sha256", "")),
        source_name=str(getattr(model, "source_name", "")),
        calibration_sha256=images.fingerprint,
        report=CompressionReport(
            layers=rows,
            decisions=tuple((item.name, item.reason) for item in decisions),
            rewrites=tuple(f"{item.rule}: {item.where}" for item in applied),
            bops_before=before.bops,
            bops_after=after.bops,
            macs_before=before.macs,
            macs_after=after.macs,
            feature_bits_before=sum(_feature_bits(row) for row in _weighted(before)),
            feature_bits_after=sum(row.feature_bits for row in rows),
            quality=quality,
            calibration=images.describe(),
        ),
    )


def structure(
    model: nn.Module,
    spec: ModelSpec,
    recipe: Recipe,
    decisions: Sequence[LayerDecision],
    input_size: tuple[int, int],
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Build the compressed structure of ``model``, uncalibrated, and its float reference.

    Returns:
        (the network with WCC layers and quantizers, the same rewritten network in floating point).
    """
    model = copy.deepcopy(model)
    replace_layers(model, list(decisions))
    graph = reparameterize(model, input_size)
    if recipe.bits != FLOAT:
        centre_images(graph, spec, input_size)
    separate_gelus(graph)
    for tensor in (*graph.parameters(), *graph.buffers()):
        # As an artifact holds it: with other strides, convolutions add up in another order.
        tensor.data = tensor.data.contiguous()
    graph.eval()
    reference = copy.deepcopy(graph)
    for name, module in list(reference.named_modules()):
        if isinstance(module, WaveletCompressedConv2d):
            reference.set_submodule(name, module.to_conv())
    place_quantizers(graph, Shapes(graph, (1, spec.channels, *input_size)), recipe)
    place_gelus(graph, recipe)
    return graph.eval(), reference.eval()


def _weighted(cost: Cost) -> list[LayerCost]:
    return [row for row in cost.layers if row.kind not in ("transform", "other")]


def _layer_report(graph: fx.GraphModule, row: LayerCost, snr: dict[str, float]) -> LayerReport:
    module = graph.get_submodule(row.name)
    ratio = module.ratio if isinstance(module, WaveletCompressedConv2d) else 1.0
    return LayerReport(
        name=row.name,
        type=type(module).__name__,
        weight_bits=row.weight_bits,
        activation_bits=row.activation_bits,
        ratio=ratio,
        macs=row.macs,
        bops=row.bops,
        feature_bits=_feature_bits(row, ratio),
        snr_db=snr.get(row.name),
    )


def _feature_bits(row: LayerCost, ratio: float = 1.0) -> int:
    elements = 1
    for extent in row.input_shape:
        elements *= extent
    return int(elements * ratio) * row.activation_bits


def _check_exact(model: nn.Module, reference: nn.Module, image: NDArray[np.float32]) -> None:
    """Refuse to go on from a rewrite that changed the network: the rest would hide it."""
    x = torch.from_numpy(image)
    with torch.no_grad():
        wanted, got = model(x), reference(x)
    error = float((wanted - got).abs().max() / wanted.abs().max().clamp(min=1e-30))
    if not error < 1e-3:
        raise ExportError(
            f"an exact rewrite changed the output of this network by {error:.1e} of its range",
            hint="This is a bug in waveedge; please report the network.",
        )


def _check_patterns(recipe: Recipe, published: Sequence[str], graph: fx.GraphModule) -> None:
    """Refuse a pattern that matches nothing: it is a typing mistake, not a wish."""
    names = [*published, *(name for name, _ in graph.named_modules())]
    for pattern in (*recipe.skip, *recipe.only, *recipe.layers):
        one = Recipe(only=(pattern,))
        if all(one.excluded(name) for name in names):
            raise RecipeError(
                f"the pattern {pattern!r} matches no layer of this network",
                hint="List the layers with: waveedge inspect MODEL",
            )
