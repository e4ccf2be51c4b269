"""The main path of compression, top to bottom.

checkpoint -> choose WCC layers -> exact rewrites -> quantizers -> calibrate -> round -> measure
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx

from waveedge.calibration import ImageSet, Source
from waveedge.compression.biases import round_biases
from waveedge.compression.centre import centred
from waveedge.compression.compressed import Compressed
from waveedge.compression.equalize import equalized
from waveedge.compression.gelus import separate_gelus
from waveedge.compression.integers import on_integers
from waveedge.compression.pixels import image_ends
from waveedge.compression.recipe import FLOAT, Recipe, make_recipe
from waveedge.compression.reparameterize import (
    PROBES,
    Applied,
    LeftOut,
    holding,
    reparameterize,
)
from waveedge.compression.report import CompressionReport, LayerReport, measure
from waveedge.compression.rounding import round_weights
from waveedge.compression.threads import one_thread
from waveedge.compression.wavelet import LayerDecision, choose_layers, replace_layers
from waveedge.cost import Cost, LayerCost, profile
from waveedge.errors import InputError, RecipeError
from waveedge.models.build import spec_of
from waveedge.nn import WaveletCompressedConv2d
from waveedge.normalise import normalise, preserve
from waveedge.opening import Network, open_float, with_images
from waveedge.reference import Reference
from waveedge.sizes import find_sizes
from waveedge.spec import ModelSpec

__all__ = ["Compressed", "compress", "structure"]


Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


@torch.random.fork_rng(devices=[])  # layers are made on the way, with weights soon replaced
@one_thread()
def compress(
    network: Network,
    images: Source | ImageSet | None = None,
    *,
    recipe: Recipe | None = None,
    input_size: tuple[int, int] | None = None,
    warn: Callable[[str], object] = warnings.warn,
    progress: Progress | None = None,
    **fields: Any,
) -> Compressed:
    """Compress a trained network: Wavelet Compressed Convolution and low-bit quantization.

    ::

        images = torch.rand(8, 3, 32, 32)  # what the network takes, preprocessed; or a folder
        small = waveedge.compress("model.pt", images, bits=8)
        print(small.report.quality)
        waveedge.save_artifact(small, "small.safetensors")

    Args:
        network: any module that takes images (N, C, H, W), or a checkpoint's path. It is copied,
            not changed; a copy runs in eval mode.
        images: to calibrate with and to judge by: a folder, arrays or tensors (N, C, H, W), a
            DataLoader, ... (see :func:`~waveedge.calibration.open_images`); the built-in photos
            when None.
        recipe: what to do; or give its fields as keyword arguments (``bits=4, wcc_ratio=0.5``).
            Where both are given, the keywords override it.
        input_size: (height, width) in pixels; by default that of arrays, or of ``spec``.
        warn: called with each sentence that should be read before the result is used.
        progress: called as work goes on.

    Raises:
        RecipeError: a field makes no sense, or a pattern matches no layer.
        CheckpointError: the path holds no network that is known.
        InputError: the network is compressed already, takes more than an image, gives NaN,
            infinite values, or other values at every run, or has nothing to compress.
        ImageError: there are no usable images.
        ExportError: the network cannot be traced, or a rewrite changed what it computes.
    """
    if recipe is None or fields:
        fields = {**(recipe.model_dump(exclude_unset=True) if recipe else {}), **fields}
        recipe = make_recipe(fields)
    model, images = with_images(
        open_float(network), images, size=input_size, seed=recipe.seed, warn=warn
    )
    spec = spec_of(model)
    size = (images.calibration[0].shape[-2], images.calibration[0].shape[-1])
    report_progress = progress or (lambda _what, _done, _total: None)
    judged = images.judged

    report_progress("reading the network", 0, 1)
    names = (*images.judged_names, *images.names)
    reference = Reference(model, [*judged, *images.calibration], names)
    published = normalise(model, (spec.channels, *size))
    before = profile(published, size)
    if not _weighted(before):
        raise InputError(
            f"{type(model).__name__} has no convolution and no linear layer to compress",
            hint="Give the network with its trained layers in it.",
        )
    decisions = choose_layers(published, before, recipe)
    report_progress("rewriting", 0, 1)
    plain, form = structure(published, spec, recipe, decisions, size, reference)
    graph, in_float = on_integers(
        form,
        plain,
        images.calibration,
        recipe,
        progress=lambda done, total: report_progress("calibrating", done, total),
    )
    _check_patterns(recipe, [row.name for row in before.layers if row.is_layer], graph)
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
    for item in left_out:
        warn(str(item))
    rows = tuple(_layer_report(graph, row, snr, in_float) for row in _weighted(after))
    # The size it was calibrated at is the one it runs at where nobody names another.
    spec = spec.model_copy(update={"input_size": size})
    sizes = find_sizes(reference.network, published, plain, size)
    preserve(graph, spec=spec, sizes=sizes)
    return Compressed(
        graph=graph,
        spec=spec,
        recipe=recipe,
        decisions=decisions,
        sizes=sizes,
        source_sha256=str(getattr(model, "source_sha256", "")),
        source_name=str(getattr(model, "source_name", "")),
        calibration_sha256=images.fingerprint,
        original=reference.network,
        report=CompressionReport(
            layers=rows,
            decisions=tuple((item.name, item.reason) for item in decisions),
            rewrites=tuple(f"{item.rule}: {item.where}" for item in applied),
            left_out=tuple(map(str, left_out)),
            in_float=tuple(in_float.items()),
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
    """Bring a network into the form that is quantized.

    Args:
        network: the normal form; it is not changed.
        spec: what the network is.
        recipe: what to do.
        decisions: which layers become WCC.
        input_size: (height, width) in pixels.
        reference: the user's network: what does not compute the same is left out.

    Returns:
        (the exact form in floating point, the same with WCC layers).

    Raises:
        ExportError: not even the normal form computes what the network does.
    """
    chosen = copy.deepcopy(network)
    replace_layers(chosen, list(decisions))
    shape = (1, spec.channels, *input_size)

    def judge(form: fx.GraphModule, images: int | None = PROBES) -> float:
        return reference.error(_without_wcc(form), images)

    form = reparameterize(
        chosen, input_size, cost=recipe.profile, skip=recipe.rewrites.skip, judge=judge
    )
    if recipe.bits != FLOAT:
        ends = image_ends(reference, spec)
        form = centred(form, spec, input_size, ends, judge)
        form = equalized(form, shape, reference.images[-_SEEN:], judge)
    form = holding(form, chosen, partial(judge, images=None))
    separate_gelus(form)
    for tensor in (*form.parameters(), *form.buffers()):
        # As an artifact holds it: with other strides, convolutions add up in another order.
        tensor.data = tensor.data.contiguous()
    return copy.deepcopy(_without_wcc(form)).eval(), form.eval()


_SEEN = 4
"""Images of the reference, its last, that show the ranges of channels."""


def _without_wcc(graph: fx.GraphModule) -> fx.GraphModule:
    """The network in floating point, without approximations; itself where it has none."""
    layers = {
        name: module
        for name, module in graph.named_modules()
        if isinstance(module, WaveletCompressedConv2d)
    }
    plain = copy.deepcopy(graph) if layers else graph
    for name, module in layers.items():
        plain.set_submodule(name, module.to_conv())
    return plain


def _weighted(cost: Cost) -> list[LayerCost]:
    return [row for row in cost.layers if row.kind not in ("transform", "other")]


def _layer_report(
    graph: fx.GraphModule, row: LayerCost, snr: dict[str, float], in_float: dict[str, str]
) -> LayerReport:
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
        note=in_float.get(row.name, ""),
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
