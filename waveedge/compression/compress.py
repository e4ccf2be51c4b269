"""The main path of compression, top to bottom.

checkpoint -> choose WCC layers -> exact rewrites -> quantizers -> calibrate -> round -> measure
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from waveedge.calibration import ImageSet, Source, calibrate_activations, open_images
from waveedge.compression.biases import round_biases
from waveedge.compression.centre import centred
from waveedge.compression.gelus import fit_gelus, place_gelus, separate_gelus
from waveedge.compression.grids import align_grids
from waveedge.compression.pixels import image_ends
from waveedge.compression.quantize import place_quantizers
from waveedge.compression.recipe import FLOAT, Recipe, make_recipe
from waveedge.compression.reparameterize import Applied, LeftOut, Shapes, reparameterize
from waveedge.compression.report import CompressionReport, LayerReport, measure
from waveedge.compression.rounding import round_weights
from waveedge.compression.threads import one_thread
from waveedge.compression.wavelet import LayerDecision, choose_layers, replace_layers
from waveedge.cost import Cost, LayerCost, profile
from waveedge.errors import ExportError, RecipeError
from waveedge.models.build import spec_of
from waveedge.nn import WaveletCompressedConv2d
from waveedge.normalise import normalise, preserve
from waveedge.reference import FLOAT_ERROR, Reference
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


@one_thread()
def compress(
    model: nn.Module,
    recipe: Recipe | None = None,
    *,
    images: Source | ImageSet | None = None,
    progress: Progress | None = None,
    **fields: Any,
) -> Compressed:
    """Compress a trained network: Wavelet Compressed Convolution and low-bit quantization.

    Args:
        model: a network from :func:`waveedge.load`, in eval mode; it is not changed.
        recipe: what to do; or give its fields as keyword arguments (``bits=4, wcc_ratio=0.5``).
        images: to calibrate with and to judge by: a folder, arrays, tensors, a DataLoader, ...
            (see :func:`~waveedge.calibration.open_images`); the built-in photos when None.
        progress: called as work goes on.

    Raises:
        RecipeError: a field makes no sense, or a pattern matches no layer.
        InputError: the network gives NaN, infinite values, or other values at every run.
        ImageError: there are no usable images.
        ExportError: the network cannot be traced, or a rewrite changed what it computes.
    """
    recipe = make_recipe(fields) if recipe is None else recipe
    spec = spec_of(model)
    images = open_images(images, spec=spec, seed=recipe.seed)
    size = (images.calibration[0].shape[-2], images.calibration[0].shape[-1])
    report_progress = progress or (lambda _what, _done, _total: None)
    judged = images.held_out or images.calibration

    report_progress("reading the network", 0, 1)
    reference = Reference(model, [*judged, *images.calibration])
    network = normalise(model, (spec.channels, *size))
    preserve(network, spec=spec)
    before = profile(network, size)
    decisions = choose_layers(network, before, recipe)
    report_progress("rewriting", 0, 1)
    plain, graph = structure(network, spec, recipe, decisions, size, reference)
    _check_patterns(recipe, [row.name for row in before.layers if row.is_layer], graph)

    calibrate_activations(
        graph,
        images.calibration,
        progress=lambda done, total: report_progress("calibrating", done, total),
    )
    align_grids(graph)
    fit_gelus(graph)
    round_weights(
        graph,
        plain,
        images.calibration,
        progress=lambda done, total: report_progress("rounding weights", done, total),
    )
    round_biases(graph)
    report_progress("measuring", 0, 1)
    quality, snr = measure(reference, plain, graph, len(judged), spec.task)
    after = profile(graph, size)
    applied: tuple[Applied, ...] = graph.applied  # type: ignore[assignment]
    left_out: tuple[LeftOut, ...] = graph.left_out  # type: ignore[assignment]
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
            left_out=tuple(map(str, left_out)),
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
    network: fx.GraphModule,
    spec: ModelSpec,
    recipe: Recipe,
    decisions: Sequence[LayerDecision],
    input_size: tuple[int, int],
    reference: Reference,
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Bring a network into the form that is quantized, uncalibrated.

    Args:
        network: the normal form; it is not changed.
        spec: what the network is.
        recipe: what to do.
        decisions: which layers become WCC.
        input_size: (height, width) in pixels.
        reference: the user's network: what does not compute the same is left out.

    Returns:
        (the exact form in floating point, the same with WCC layers and quantizers).

    Raises:
        ExportError: not even the normal form computes what the network does.
    """
    chosen = copy.deepcopy(network)
    replace_layers(chosen, list(decisions))

    def judge(form: fx.GraphModule, images: int | None = _PROBES) -> float:
        return reference.error(_without_wcc(form), images)

    graph = reparameterize(chosen, input_size, judge=judge)
    if recipe.bits != FLOAT:
        ends = image_ends(reference, spec)
        graph = centred(graph, spec, input_size, ends, judge)
    graph = _holding(graph, chosen, judge)
    separate_gelus(graph)
    for tensor in (*graph.parameters(), *graph.buffers()):
        # As an artifact holds it: with other strides, convolutions add up in another order.
        tensor.data = tensor.data.contiguous()
    plain = _without_wcc(graph)
    place_quantizers(graph, Shapes(graph, (1, spec.channels, *input_size)), recipe)
    place_gelus(graph, recipe)
    return plain.eval(), graph.eval()


_PROBES = 2
"""Images that judge a single rewrite; all of them judge the result."""


def _holding(
    graph: fx.GraphModule, published: fx.GraphModule, judge: Callable[..., float]
) -> fx.GraphModule:
    """``graph`` if it computes the network's outputs on every image; else the published form."""
    error = judge(graph, None)
    if error <= FLOAT_ERROR:
        return graph
    unchanged = judge(published, None)
    if not unchanged <= FLOAT_ERROR:
        raise ExportError(
            f"the network, written as a graph, differs from itself by {unchanged:.1e} of its range",
            hint="Its outputs depend on something besides the image, or on values at the edge of "
            "what 32-bit floats hold.",
        )
    reason = f"together they changed the output by {error:.1e}"
    published = copy.deepcopy(published)
    preserve(published, applied=(), left_out=(LeftOut("all rewrites", "", reason),))
    return published


def _without_wcc(graph: fx.GraphModule) -> fx.GraphModule:
    """The network in floating point, without approximations."""
    if not any(isinstance(module, WaveletCompressedConv2d) for module in graph.modules()):
        return copy.deepcopy(graph)
    plain = copy.deepcopy(graph)
    for name, module in list(plain.named_modules()):
        if isinstance(module, WaveletCompressedConv2d):
            plain.set_submodule(name, module.to_conv())
    return plain


def _weighted(cost: Cost) -> list[LayerCost]:
    return [row for row in cost.layers if row.kind not in ("transform", "other")]


def _layer_report(graph: fx.GraphModule, row: LayerCost, snr: dict[str, float]) -> LayerReport:
    module = graph.get_submodule(row.name) if row.is_layer else None
    ratio = module.ratio if isinstance(module, WaveletCompressedConv2d) else 1.0
    return LayerReport(
        name=row.name,
        type=row.type,
        weight_bits=row.weight_bits,
        activation_bits=row.activation_bits,
        ratio=ratio,
        macs=row.macs,
        transform_macs=row.transform_macs,
        bops=row.bops,
        feature_bits=_feature_bits(row, ratio),
        snr_db=snr.get(row.name),
    )


def _feature_bits(row: LayerCost, ratio: float = 1.0) -> int:
    elements = 1
    for extent in row.input_shape:
        elements *= extent
    return int(elements * ratio) * row.activation_bits


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
