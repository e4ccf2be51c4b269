"""The verb: any network in, a verified bundle out, by one path for Python and the command line.

The user's own network is the reference. A checkpoint or module is written in its normal form and
rewritten as far as that computes the same; a compressed network comes as it is. Either is then
compared with the user's network on images, and exported beside it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from waveedge.calibration import ImageSet, Source
from waveedge.checkpoint import load
from waveedge.compression.biases import round_biases
from waveedge.compression.compressed import Compressed
from waveedge.compression.costs import CostProfile, profile_of
from waveedge.compression.reparameterize import exact_form
from waveedge.errors import InputError, WaveedgeError
from waveedge.export.autotune import autotune as fastest_form
from waveedge.export.free_sizes import check_ends, served
from waveedge.export.targets import find_target
from waveedge.export.torch_to_onnx import Batch
from waveedge.export.write_bundle import Bundle, Progress, export_model
from waveedge.files import sha256
from waveedge.limits import check_pixels
from waveedge.models.build import check_input_size, spec_of
from waveedge.normalise import normalise
from waveedge.opening import (
    Loader,
    Network,
    checkpoint_of,
    open_float,
    open_network,
    with_images,
)
from waveedge.outputs import BUNDLE, check_output
from waveedge.reference import Reference
from waveedge.runtime.sizes import Size, SizeRange
from waveedge.sizes import find_sizes

__all__ = ["export"]

Warn = Callable[[str], object]


@torch.random.fork_rng(devices=[])  # layers are made on the way, with weights soon replaced
def export(
    network: Network,
    out: str | Path,
    *,
    target: str = "ort",
    precision: str | None = None,
    images: Source | ImageSet | None = None,
    input_size: Size | Literal["dynamic"] | None = None,
    min_size: Size | None = None,
    max_size: Size | None = None,
    batch: Batch = 1,
    reparameterize: bool = True,
    autotune: bool = False,
    cost: CostProfile | str | None = None,
    overwrite: bool = False,
    loader: Loader = load,
    warn: Warn = warnings.warn,
    progress: Progress | None = None,
) -> Bundle:
    """Export a network as a bundle: ONNX, an engine where one builds, and how it was verified.

    ::

        bundle = waveedge.export("model.pt", "out", target="ort")
        print(bundle.verification["figures"])

    Args:
        network: any module that takes images (N, C, H, W), what :func:`waveedge.compress` returned,
            or the path of a checkpoint or an artifact. It is not changed.
        out: the folder to write, whole or not at all; an older bundle is replaced.
        target: "onnx": int8 with zero point 0. "ort": uint8 for onnxruntime. "openvino": uint8
            for OpenVINO. "trt": int8, linted, with an engine, or the script that builds one.
            "trt-rtx": an engine for desktop GPUs.
        precision: what floating-point layers compute in, for targets that have a choice:
            "float32", "float16" with TensorRT, or "bfloat16" with OpenVINO.
        images: to verify on, as for :func:`waveedge.compress`; those held out of them are taken.
        input_size: (height, width) in pixels; by default that of compression, of arrays, or of the
            network's ``spec``. "dynamic": that size is what the network is made and tuned for, and
            one file serves every size that it takes (``sizes`` in the manifest).
        min_size, max_size: between which sizes a TensorRT engine serves "dynamic" ones; it needs
            the larger one, and the smaller is by default the smallest that the network takes.
        batch: images at once, or "dynamic".
        reparameterize: rewrite a network that is not compressed where that is exact and cheaper.
        autotune: rewrite it into the form that is fastest on this machine's CPU, by timing.
        cost: prices of the device that the rewrites choose by, or the name of a shipped profile;
            the target's where None.
        overwrite: replace a file of that name, too.
        loader: reads checkpoints: ``partial(waveedge.load, arch="net:make")`` for one of your own.
        warn: called with each sentence that should be read before the bundle is used: rewrites
            that were left out, suspicious images, a baseline that is missing.
        progress: called as work goes on.

    Raises:
        UsageError: ends of an optimisation profile are missing, or given where there is none.
        InputError: there is no network, it does not take this size, it takes more than an image,
            gives NaN, or other values at every run; or a compressed one shall be rewritten.
        CheckpointError: the path holds no network that is known.
        ArtifactError: it is a damaged artifact.
        ImageError: there are no usable images.
        ExportError: torch cannot trace the network, it is bound to one size and shall be dynamic,
            or the target refuses the graph.
        VerificationError: onnxruntime computes something else than torch. No folder is left.
        MissingDependencyError: "trt-rtx" without ``tensorrt_rtx``.
        OutputError: ``out`` must not be replaced, or cannot be written.
    """
    out = Path(out)
    place = find_target(target)
    precision = place.precision(precision)
    dynamic = input_size == "dynamic"
    check_ends(place, dynamic, min_size, max_size)
    asked = None if isinstance(input_size, str) else input_size
    paths = (Path(item) for item in (network, images) if isinstance(item, (str, Path)))
    check_output(out, BUNDLE, inputs=paths, overwrite=overwrite)
    opened = open_network(network, loader)
    compressed = opened if isinstance(opened, Compressed) else None
    prices = profile_of(cost) if cost is not None else place.cost
    if compressed and (autotune or not reparameterize or cost is not None):
        raise InputError(
            f"{compressed.path or 'this network'} is compressed: its form was fixed when its "
            "quantizers were placed",
            hint="Export the uncompressed checkpoint, or compress it again: a recipe has a cost "
            "profile, and names rewrites to leave out.",
        )
    if compressed and asked:
        compressed.sizes.check(asked, "this artifact")
    model, held = with_images(
        opened.graph if isinstance(opened, Compressed) else opened,
        images,
        size=asked or (compressed.input_size if compressed else None),
        warn=warn,
        progress=partial(progress, "reading images") if progress else None,
    )
    judged = held.judged
    size = (judged[0].shape[-2], judged[0].shape[-1])
    check_input_size(spec_of(model), size)
    if compressed:
        compressed.sizes.check(size, "this artifact")
    if batch != "dynamic":
        check_pixels("--batch", str(batch), batch * size[0] * size[1])

    shipped: nn.Module = model
    original: nn.Module | None = model
    choice = None
    sizes: SizeRange | None = None
    if compressed:
        # One that was trained in a loop of the user's own has biases that no accumulator holds.
        shipped = copy.deepcopy(compressed.graph)
        round_biases(shipped)
        original = _uncompressed(compressed, loader, warn)
        if dynamic:
            sizes = served(compressed.sizes, min_size, max_size)
    else:
        normal = form = normalise(model, (spec_of(model).channels, *size))
        if autotune:
            choice = fastest_form(
                model, size, images=judged, cost=prices, batch=batch, progress=progress
            )
            form = choice.model
        elif reparameterize:
            reference = Reference(model, judged, held.judged_names)
            form = exact_form(normal, size, reference, cost=prices)
        if dynamic:
            sizes = served(find_sizes([(model, form)], normal, size), min_size, max_size)
        shipped = form
        for item in getattr(shipped, "left_out", ()):
            warn(str(item))
    return export_model(
        shipped,
        out,
        overwrite=overwrite,
        target=target,
        precision=precision,
        input_size=size,
        batch=batch,
        sizes=sizes,
        images=judged,
        published=original,
        recipe=compressed.recipe.model_dump(mode="json") if compressed else None,
        autotune=choice.to_dict() if choice else None,
        source_sha256=str(getattr(compressed or original, "source_sha256", "")),
        artifact_sha256=sha256(compressed.path) if compressed and compressed.path else None,
        progress=progress,
    )


def _uncompressed(compressed: Compressed, loader: Loader, warn: Warn) -> nn.Module | None:
    """The network that was compressed: in memory, or its checkpoint where that still lies there."""
    if compressed.original is not None:
        return compressed.original
    found = checkpoint_of(compressed)
    if found is None:
        name = compressed.source_name or "(in memory)"
        warn(
            f"the uncompressed checkpoint {name} was not found from the "
            "artifact's folder or from this one: the bundle gets no baseline, so that waveedge "
            "bench without --vs will measure it alone"
        )
        return None
    try:
        return open_float(found, loader=loader)
    except WaveedgeError as error:
        warn(f"{found} cannot be loaded as the baseline: {error.what}")
        return None
