"""The main path of export, top to bottom.

torch -> graph -> encoding of the target -> simplify, check -> verify -> (lint, engine) -> folder
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn

from waveedge.calibration import open_images
from waveedge.errors import ExportError, RecipeError
from waveedge.export.biases import round_biases
from waveedge.export.encode_int8 import encode_int8
from waveedge.export.encode_ort import encode_ort
from waveedge.export.engine import Build
from waveedge.export.finish import finish
from waveedge.export.free_sizes import FREE_NOTE, explained, resized
from waveedge.export.groups import merge_groups
from waveedge.export.layers import (
    Layer,
    layers_of,
    optimised_by_onnxruntime,
    seen_in_engine,
    seen_in_graph,
)
from waveedge.export.linear import linear_to_gemm
from waveedge.export.lint import Finding
from waveedge.export.manifest import make_manifest, write_json
from waveedge.export.means import pool_means
from waveedge.export.norms import unfold_norms
from waveedge.export.paddings import absorb_paddings
from waveedge.export.pieces import in_pieces
from waveedge.export.sigmoids import integer_sigmoids
from waveedge.export.stems import fold_stems
from waveedge.export.targets import ENGINE, Target, check_target, for_target, target_notes
from waveedge.export.torch_to_onnx import Batch, to_onnx
from waveedge.export.unsigned_weights import unsigned_weights
from waveedge.export.verify import Verification, verify
from waveedge.export.weights import fold_weights
from waveedge.files import shown
from waveedge.normalise import detached_copy, normalise
from waveedge.outputs import BUNDLE, new_folder
from waveedge.runtime.machine import int8_saturates
from waveedge.runtime.manifest import MANIFEST
from waveedge.runtime.sizes import SizeRange, size_text
from waveedge.spec import ModelSpec, Task

__all__ = ["Bundle", "Target", "export_model", "quantized_graph"]

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

_STEPS = 5
_IMAGES = 8
"""Images that a verification looks at; more do not find more."""


@dataclass(frozen=True)
class Bundle:
    """An exported network.

    Attributes:
        path: the folder.
        manifest: content of its ``manifest.json``.
        verification: content of its ``verification.json``.
    """

    path: Path
    manifest: dict[str, Any]
    verification: dict[str, Any]


def export_model(
    model: nn.Module,
    out: Path,
    *,
    target: Target,
    overwrite: bool = False,
    input_size: tuple[int, int] | None = None,
    batch: Batch = 1,
    sizes: SizeRange | None = None,
    images: Sequence[NDArray[np.float32]] | None = None,
    published: nn.Module | None = None,
    recipe: dict[str, Any] | None = None,
    autotune: dict[str, Any] | None = None,
    source_sha256: str = "",
    artifact_sha256: str | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Exports a network as a verified bundle folder.

    Args:
        model: the network, in eval mode, with or without quantizers; it is not changed. Its
            ``spec`` attribute, if it has one, gives task, preprocessing and input size; its
            ``left_out``, the rewrites that did not hold, go to the manifest's notes.
        out: the folder to write, whole or not at all; an older bundle is replaced.
        target: "onnx": int8 with zero point 0. "ort": uint8 for onnxruntime. "trt": int8, linted,
            with an engine, or the script that builds one. "trt-rtx": an engine for desktop GPUs.
        overwrite: replace a file of that name, too.
        input_size: (height, width) in pixels; the spec's where None.
        batch: images at once, or "dynamic".
        sizes: leaves height and width free; verified at two of these sizes besides ``input_size``.
        images: float32 (1, C, H, W), preprocessed, to verify on; where None, the built-in photos,
            or noise for a model without spec.
        published: the user's own network: what the export is compared with, and exported beside as
            the baseline of ``waveedge bench``.
        recipe: how the network was compressed, for the manifest.
        autotune: how its form was chosen (``Choice.to_dict``), for the manifest.
        source_sha256: hash of the checkpoint.
        artifact_sha256: hash of the compressed artifact.
        progress: called as work goes on.

    Raises:
        ExportError: torch cannot trace the network, or the target refuses the graph.
        VerificationError: onnxruntime computes something else than torch. No folder is left.
        MissingDependencyError: "trt-rtx" without ``tensorrt_rtx``.
        OutputError: ``out`` must not be replaced, or cannot be written.
    """
    check_target(target)
    published = None if published is None else detached_copy(published)
    spec: ModelSpec | None = getattr(model, "spec", None)
    shape = _input_shape(spec, input_size, images)
    images, notes = (images, []) if images else _default_images(spec, shape)
    notes += map(str, getattr(model, "left_out", ()))
    batches = _batches(images, shape, batch)
    others = (
        {size_text(other): resized(batches, other) for other in sizes.others()} if sizes else {}
    )
    notes += [FREE_NOTE] if sizes else []
    task = spec.task if spec is not None else "unknown"
    low, high = spec.preprocessing.range if spec is not None else (0.0, 1.0)
    step = _steps(progress)

    with new_folder(out, BUNDLE, overwrite=overwrite) as folder:
        step("exporting")
        traced = to_onnx(model, shape, batch=batch, sizes=sizes)
        layers = layers_of(traced, model)
        graph = finish(quantized_graph(traced, target))
        shipped = in_pieces(fold_stems(integer_sigmoids(graph))) if target == "ort" else graph
        if target == "ort" and int8_saturates():
            shipped = unsigned_weights(shipped)
        onnx.save(shipped, folder / "model.onnx")

        step("verifying")
        compare = partial(
            verify, model, graph, shipped=shipped, original=published, task=task, peak=high - low
        )
        with explained(sizes):
            verification = {"model": compare(batches)}
            at_sizes = {size: compare(resampled) for size, resampled in others.items()}

        if published is not None:
            step("exporting the baseline")
            plain, verification["published"] = _baseline(
                published, shape, batch, sizes, [batches, *others.values()], task
            )
            onnx.save(plain, folder / "published.onnx")

        step("building for the target")
        findings, build = for_target(folder, graph, target, sizes)
        executed = _executed(folder / "model.onnx", layers, build)

        step("writing")
        report = _report(verification, at_sizes, findings, build)
        write_json(folder / "verification.json", report)
        manifest = make_manifest(
            folder,
            name=shown(out.name),
            target=target,
            spec=spec,
            graph=shipped,
            sizes=sizes,
            baseline="published.onnx" if published is not None else None,
            engine=ENGINE if (folder / ENGINE).exists() else None,
            recipe=recipe,
            autotune=autotune,
            layers=[layer.to_dict(layer.node in executed) for layer in layers],
            source_sha256=source_sha256,
            artifact_sha256=artifact_sha256,
            notes=notes + target_notes(target, findings, build),
        )
        write_json(folder / MANIFEST, manifest)
    step("done")
    return Bundle(out, manifest, report)


def _baseline(
    published: nn.Module,
    shape: tuple[int, int, int],
    batch: Batch,
    sizes: SizeRange | None,
    groups: Sequence[Sequence[NDArray[np.float32]]],
    task: Task,
) -> tuple[onnx.ModelProto, Verification]:
    """The user's network as torch exports it; where torch cannot, from its normal form.

    Verified on groups of batches, each of one size; what the first gave is returned.
    """
    forms: tuple[Callable[[], nn.Module], ...] = (
        lambda: detached_copy(published),
        lambda: normalise(published, shape),
    )
    failure: ExportError | None = None
    for form in forms:
        try:
            traced = to_onnx(form(), shape, batch=batch, sizes=sizes)
            graph = finish(quantized_graph(traced, "onnx"))
            results = [verify(published, graph, batches, task=task) for batches in groups]
            return graph, results[0]
        except ExportError as error:
            failure = error
    assert failure is not None
    raise failure


def quantized_graph(traced: ir.Model, target: Target) -> ir.Model:
    """The graph with its FakeQuantize nodes in the target's encoding; ``traced`` is not changed."""
    model = traced.clone()
    fold_weights(model)
    if target == "ort":
        absorb_paddings(model)
        pool_means(model)
        unfold_norms(model)
        merge_groups(model)
    linear_to_gemm(model)
    round_biases(model)
    (encode_ort if target == "ort" else encode_int8)(model)
    return model


def _input_shape(
    spec: ModelSpec | None,
    size: tuple[int, int] | None,
    images: Sequence[NDArray[np.float32]] | None,
) -> tuple[int, int, int]:
    if images and size is None:
        return images[0].shape[-3], images[0].shape[-2], images[0].shape[-1]
    if spec is not None:
        return spec.channels, *(size or spec.input_size)
    if size is None or not images:
        raise RecipeError(
            "the input size of this network is unknown",
            hint="Give images, or a model that carries its spec.",
        )
    return images[0].shape[-3], *size


def _default_images(
    spec: ModelSpec | None, shape: tuple[int, int, int]
) -> tuple[Sequence[NDArray[np.float32]], list[str]]:
    """Images to verify on where none are given, and what to say about it."""
    if spec is None:
        noise = np.random.default_rng(0).standard_normal((2, 1, *shape), dtype=np.float32)
        return list(noise), ["verified on noise: no images were given"]
    photos = open_images(None, spec=spec, size=(shape[1], shape[2]))
    return photos.held_out, [f"verified on {photos.source}: no images were given"]


def _batches(
    images: Sequence[NDArray[np.float32]], shape: tuple[int, int, int], batch: Batch
) -> list[NDArray[np.float32]]:
    """Groups images by batch size; the last group is filled up from the first images."""
    for image in images:
        if image.shape != (1, *shape):
            raise RecipeError(
                f"an image of shape {image.shape} does not fit the input {(1, *shape)}",
                hint="Open the images with the size that is exported.",
            )
    size = min(2, len(images)) if batch == "dynamic" else batch
    count = max(size, min(_IMAGES, len(images)) // size * size)
    chosen = [images[index % len(images)] for index in range(count)]
    return [np.concatenate(chosen[start : start + size]) for start in range(0, count, size)]


def _executed(model: Path, layers: list[Layer], build: Build | None) -> set[str]:
    """Names of the nodes that run in int8, as seen in what a runtime makes of the written file."""
    if build is not None and build.kernels:
        return seen_in_engine(build.kernels, layers)
    return seen_in_graph(optimised_by_onnxruntime(model.read_bytes()), layers)


def _report(
    verification: dict[str, Verification],
    at_sizes: dict[str, Verification],
    findings: list[Finding],
    build: Build | None,
) -> dict[str, Any]:
    import onnxruntime

    return {
        "runtime": f"onnxruntime {onnxruntime.__version__}, CPU",
        **verification["model"].to_dict(),
        "at_sizes": {size: found.to_dict() for size, found in at_sizes.items()},
        "published": verification["published"].to_dict() if "published" in verification else None,
        "lint": [vars(finding) for finding in findings],
        "engine": build.to_dict() if build is not None else None,
    }


def _steps(progress: Progress | None) -> Callable[[str], None]:
    """Numbers the steps; an export without a baseline has one fewer."""
    done = iter(range(_STEPS))

    def step(what: str) -> None:
        if progress is not None:
            progress(what, _STEPS if what == "done" else next(done), _STEPS)

    return step
