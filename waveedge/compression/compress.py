"""The main path of compression, top to bottom.

checkpoint -> choose WCC layers -> fewer channels, static WCC, exact rewrites -> quantizers
    -> calibrate -> round -> tune -> measure
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from waveedge.calibration import ImageSet, Source
from waveedge.compression.biases import round_biases
from waveedge.compression.compressed import Compressed
from waveedge.compression.integers import on_integers
from waveedge.compression.lessons import windows_of
from waveedge.compression.recipe import FLOAT, STATIC, Recipe, make_recipe
from waveedge.compression.reparameterize import Applied, LeftOut
from waveedge.compression.report import (
    CompressionReport,
    LayerReport,
    ShrinkReport,
    measure,
)
from waveedge.compression.rounding import round_weights
from waveedge.compression.sampling import spread
from waveedge.compression.shrink import Shrunk
from waveedge.compression.structure import small_structure
from waveedge.compression.threads import one_thread
from waveedge.compression.tuning import tune_graph
from waveedge.compression.wavelet import (
    LayerDecision,
    choose_layers,
    replace_layers,
)
from waveedge.cost import Cost, LayerCost, profile
from waveedge.decibels import ratio_db
from waveedge.duplicates import duplicate
from waveedge.errors import InputError, RecipeError
from waveedge.models.build import spec_of
from waveedge.nn import Selection
from waveedge.normalise import normalise, preserve
from waveedge.opening import CALIBRATED, Network, open_float, with_images
from waveedge.reference import Reference
from waveedge.sizes import find_sizes

__all__ = ["Compressed", "compress"]


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
    judged, seen = images.judged, spread(images.calibration, CALIBRATED)

    report_progress("reading the network", 0, 1)
    names = (*images.judged_names, *spread(images.names[: len(images.calibration)], CALIBRATED))
    reference = Reference(model, [*judged, *seen], names)
    published = normalise(model, (spec.channels, *size))
    before = profile(published, size)
    if not _weighted(before):
        raise InputError(
            f"{type(model).__name__} has no convolution and no linear layer to compress",
            hint="Give the network with its trained layers in it.",
        )
    decisions = choose_layers(published, before, recipe)
    if recipe.wcc_ratio < 1 and not any(item.compressed for item in decisions):
        smaller = "" if recipe.wcc_select == STATIC else "; --wcc-levels 1 reaches smaller maps"
        warn(
            "WCC selects nothing: it fits no layer of this network (the report says of each, why)"
            + smaller
        )
    report_progress("rewriting", 0, 1)
    chosen = duplicate(published)
    replace_layers(chosen, decisions)
    static = recipe.wcc_select == STATIC and any(item.compressed for item in decisions)
    made = small_structure(
        chosen,
        spec,
        recipe,
        reference,
        seen,
        len(judged),
        static=decisions if static else (),
    )
    decisions = list(made.decisions) or decisions
    plain = made.plain
    integers = on_integers(
        made.form,
        plain,
        seen,
        recipe,
        progress=lambda done, total: report_progress("calibrating", done, total),
        wide=made.bottlenecks,
    )
    graph = integers.graph
    _check_patterns(recipe, [row.name for row in before.layers if row.is_layer], graph)
    round_weights(
        graph,
        plain,
        seen,
        progress=lambda done, total: report_progress("rounding weights", done, total),
    )
    round_biases(graph)
    steps = [(made.reference.network, plain)]
    if made.prepared is not None:
        steps.append((reference.network, made.prepared))
    sizes = find_sizes(steps, published, size)
    tuned = None
    tuning_steps = recipe.tuning_steps(before.macs / math.prod(size))
    if tuning_steps and recipe.bits != FLOAT:
        graph, tuned = tune_graph(
            graph,
            reference.network,
            images.calibration,
            judged,
            tuning_steps,
            recipe.seed,
            progress=lambda done, total: report_progress("tuning", done, total),
            windows=windows_of(sizes, graph, size),
        )
        if tuned.reason:
            warn(f"tuning ended after {tuned.steps} steps: {tuned.reason}")
    report_progress("measuring", 0, 1)
    quality, snr = measure(reference, plain, graph, len(judged), spec.task)
    after = profile(graph, size)
    applied: tuple[Applied, ...] = graph.applied  # type: ignore[assignment]
    left_out: tuple[LeftOut, ...] = graph.left_out  # type: ignore[assignment]
    for item in left_out:
        warn(str(item))
    notes = {**integers.in_float, **integers.in_eight}
    rows = tuple(_layer_report(graph, row, snr, notes) for row in _weighted(after))
    # The size it was calibrated at is the one it runs at where nobody names another.
    spec = spec.model_copy(update={"input_size": size})
    preserve(graph, spec=spec, sizes=sizes)
    report = CompressionReport(
        layers=rows,
        decisions=tuple((item.name, item.reason) for item in decisions),
        coefficients=_coefficients(decisions, before),
        rewrites=tuple(f"{item.rule}: {item.where}" for item in applied),
        left_out=tuple(map(str, left_out)),
        shrunk=_shrunk_report(made.shrunk),
        tuned=tuned.report() if tuned else None,
        in_float=tuple(integers.in_float.items()),
        in_eight=tuple(integers.in_eight.items()),
        bops_before=before.bops,
        bops_after=after.bops,
        macs_before=before.macs,
        macs_after=after.macs,
        feature_bits_before=sum(_feature_bits(row) for row in _weighted(before)),
        feature_bits_after=sum(row.feature_bits for row in rows),
        quality=quality,
        calibration=images.describe(),
    )
    if advice := report.advice():
        warn(advice)
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
        report=report,
    )


def _coefficients(decisions: Sequence[LayerDecision], cost: Cost) -> float:
    """The share of their inputs that layers with WCC keep."""
    sizes = {row.name: math.prod(row.input_shape) for row in cost.layers}
    chosen = [item for item in decisions if item.compressed]
    whole = sum(sizes[item.name] for item in chosen)
    return sum(item.ratio * sizes[item.name] for item in chosen) / whole if whole else 1.0


def _shrunk_report(shrunk: Shrunk | None) -> ShrinkReport | None:
    if shrunk is None:
        return None
    return ShrinkReport(
        forms=tuple((form.writer, str(form)) for form in shrunk.forms),
        snr_db=ratio_db(1.0, shrunk.error),
    )


def _weighted(cost: Cost) -> list[LayerCost]:
    return [row for row in cost.layers if row.kind not in ("transform", "other")]


def _layer_report(
    graph: fx.GraphModule, row: LayerCost, snr: dict[str, float], notes: dict[str, str]
) -> LayerReport:
    module = graph.get_submodule(row.name) if row.is_layer else None
    ratio = module.ratio if isinstance(module, Selection) else 1.0
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
        note=notes.get(row.name, ""),
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
