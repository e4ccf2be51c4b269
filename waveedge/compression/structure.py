"""From the normal form to the form that is quantized.

Fewer channels, then static WCC of what is left, then exact rewrites.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import fx

from waveedge.compression.centre import centred
from waveedge.compression.copies import copied_last
from waveedge.compression.equalize import equalized
from waveedge.compression.gelus import separate_gelus
from waveedge.compression.integers import on_integers
from waveedge.compression.levels import levelled
from waveedge.compression.pixels import image_ends
from waveedge.compression.recipe import CONTAINER_BITS, FLOAT, Recipe
from waveedge.compression.reparameterize import (
    CONTRACTING,
    PROBES,
    REWRITES,
    holding,
    reparameterize,
)
from waveedge.compression.sampling import enough
from waveedge.compression.shrink import Shrunk, drop_unread, find_pairs, output_error, shrink
from waveedge.compression.wavelet import LayerDecision, select_static
from waveedge.cost import profile
from waveedge.duplicates import duplicate
from waveedge.nn import Selection
from waveedge.normalise import preserve
from waveedge.reference import Reference
from waveedge.spec import ModelSpec

__all__ = ["Structure", "small_structure", "structure"]

_SEEN = 4
"""Images of the reference, its last, that show the ranges of channels."""
_ROUNDED, _PIXELS = 4, 2**14
"""Calibration images that show what rounding would cost, at least, and their pixels."""
_SHARE, _SHARE_OF_MAPS = 0.1, 1.0
"""Of the error that rounding causes: what fewer channels may cost on top of it, the second where
only the largest channel of each pixel counts. The brain's segmenter at 8 bits is 1.3 times as fast
by that, and loses 0.1 points at most; by the first it is 1.05 times as fast."""


@dataclass(frozen=True)
class Structure:
    """A network in the form that is quantized.

    Attributes:
        form: it, in floating point, with WCC layers.
        plain: the same without WCC: exactly what ``reference`` computes.
        reference: the network that ``form`` was made of: the user's, or the one with fewer
            channels.
        prepared: where channels were left out, the last form that computes exactly what the
            user's network does; else None.
        shrunk: what was left out; None where nothing was.
        decisions: of static WCC, with what each layer keeps; none without it.
        bottlenecks: names of layers that write principal directions.
    """

    form: fx.GraphModule
    plain: fx.GraphModule
    reference: Reference
    prepared: fx.GraphModule | None = None
    shrunk: Shrunk | None = None
    decisions: tuple[LayerDecision, ...] = ()
    bottlenecks: tuple[str, ...] = ()


def small_structure(
    chosen: fx.GraphModule,
    spec: ModelSpec,
    recipe: Recipe,
    reference: Reference,
    images: Sequence[NDArray[np.float32]],
    judged: int,
    static: Sequence[LayerDecision] = (),
) -> Structure:
    """Bring a network into the form that is quantized, with as few channels as will do.

    Args:
        chosen: the normal form with its top-k layers; it is not changed.
        spec: what the network is.
        recipe: what to do.
        reference: the user's network: what does not compute the same is left out.
        images: (1, C, H, W) float32, to choose on.
        judged: the first so many images of the reference are others, to judge on.
        static: the decisions of static WCC, if any.

    Raises:
        ExportError: not even the normal form computes what the network does.
    """
    whole = structure(chosen, spec, recipe, reference)
    prepared = _prepared(chosen, recipe, reference)
    names = [name for name, _ in prepared.named_modules()]
    selections = [n for n, m in prepared.named_modules() if isinstance(m, Selection)]
    keep = {*selections, *(name for name in names if recipe.excluded(name) is not None)}
    plain = without_wcc(prepared)
    shrunk = None
    if recipe.macs < 1 or (recipe.shrink and recipe.bits != FLOAT):
        share = _SHARE_OF_MAPS if spec.task == "segmentation" else _SHARE
        shrunk = _shrunk(plain, whole.plain, recipe, reference, images, judged, keep, share)
    if shrunk is None and not static:
        return whole
    smaller = shrunk.graph if shrunk else duplicate(plain)
    decisions: tuple[LayerDecision, ...] = ()
    bottlenecks = shrunk.bottlenecks if shrunk else []
    if static:
        # What has gone already counts; the most worthless coefficients are those.
        decisions, more = select_static(smaller, static, images, recipe.profile, keep)
        drop_unread(smaller, keep)
        bottlenecks += more
    for name in selections:
        smaller.set_submodule(name, duplicate(prepared.get_submodule(name)))
    known = {rewrite.name for rewrite in REWRITES} | dict(smaller.named_modules()).keys()
    skip = [name for name in recipe.rewrites.skip if name in known]
    target = Reference(without_wcc(smaller), reference.images)
    made = structure(smaller, spec, recipe, target, skip=skip)
    for graph in (made.form, made.plain):
        preserve(
            graph,
            applied=(*prepared.applied, *graph.applied),  # type: ignore[misc]
            left_out=(*prepared.left_out, *graph.left_out),  # type: ignore[misc]
        )
    return Structure(made.form, made.plain, target, plain, shrunk, decisions, tuple(bottlenecks))


def _prepared(chosen: fx.GraphModule, recipe: Recipe, reference: Reference) -> fx.GraphModule:
    """The network by those exact rewrites that leave its channels apart."""
    prepared = reparameterize(
        chosen,
        reference.images[0].shape[-2:],
        cost=recipe.profile,
        skip={*recipe.rewrites.skip, *CONTRACTING},
        judge=partial(_error, reference, PROBES),
    )
    return holding(prepared, chosen, partial(_error, reference, None))


def _shrunk(
    plain: fx.GraphModule,
    whole: fx.GraphModule,
    recipe: Recipe,
    reference: Reference,
    images: Sequence[NDArray[np.float32]],
    judged: int,
    keep: Collection[str],
    share: float,
) -> Shrunk | None:
    """Fewer channels of ``plain``; what they may cost, ``whole`` tells: the network rewritten."""
    if next(find_pairs(plain, keep), None) is None:
        return None
    size = reference.images[0].shape[-2:]
    seen = reference.images[:judged]
    wanted = [reference.outputs(index) for index in range(judged)]
    allowed = 0.0
    if recipe.shrink and recipe.bits != FLOAT:
        # Rounded well, weights add little to what activations cost; and what fewer bits cost more
        # than 8, tuning makes up for.
        eight = recipe.model_copy(update={"bits": CONTAINER_BITS, "weight_bits": FLOAT})
        rounded = on_integers(whole, whole, enough(images, _ROUNDED, _PIXELS), eight)
        allowed = share * output_error(rounded.graph, seen, wanted)

    def fits(smaller: fx.GraphModule) -> bool:
        form = reparameterize(smaller, size, cost=recipe.profile, judge=lambda _: 0.0)
        return profile(form, size).macs <= recipe.macs * profile(whole, size).macs

    return shrink(
        plain,
        images,
        seen,
        wanted,
        allowed,
        prices=recipe.profile,
        keep=keep,
        fits=fits if recipe.macs < 1 else None,
    )


def structure(
    chosen: fx.GraphModule,
    spec: ModelSpec,
    recipe: Recipe,
    reference: Reference,
    *,
    skip: Sequence[str] | None = None,
) -> Structure:
    """Bring a network into the form that is quantized, by exact rewrites alone.

    Arguments and errors as for :func:`small_structure`; ``skip`` replaces the recipe's.
    """
    size = reference.images[0].shape[-2:]
    judge = partial(_error, reference, PROBES)
    skip = recipe.rewrites.skip if skip is None else skip
    form = reparameterize(chosen, size, cost=recipe.profile, skip=skip, judge=judge)
    if recipe.bits != FLOAT:
        ends = image_ends(reference, spec)
        form = centred(form, spec, size, ends, judge)
        shape, seen = reference.images[0].shape, reference.images[-_SEEN:]
        form = copied_last(form, shape, seen, judge, keep=_in_float(form, recipe))
        form = equalized(form, shape, seen, judge)
        form = levelled(form, shape, seen, judge)
    form = holding(form, chosen, partial(_error, reference, None))
    separate_gelus(form)
    for tensor in (*form.parameters(), *form.buffers()):
        # As an artifact holds it: with other strides, convolutions add up in another order.
        tensor.data = tensor.data.contiguous()
    return Structure(form.eval(), duplicate(without_wcc(form)).eval(), reference)


def without_wcc(graph: fx.GraphModule) -> fx.GraphModule:
    """The network in floating point, without approximations; itself where it has none."""
    layers = {
        name: module for name, module in graph.named_modules() if isinstance(module, Selection)
    }
    plain = duplicate(graph) if layers else graph
    for name, module in layers.items():
        plain.set_submodule(name, module.to_conv())
    return plain


def _in_float(form: fx.GraphModule, recipe: Recipe) -> set[str]:
    """Names of the modules that the recipe leaves in floating point."""
    return {
        name
        for name, _ in form.named_modules()
        if recipe.excluded(name) is not None or recipe.settings(name).bits == FLOAT
    }


def _error(reference: Reference, images: int | None, form: fx.GraphModule) -> float:
    return reference.error(without_wcc(form), images)
