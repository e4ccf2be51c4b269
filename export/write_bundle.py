"""The main path of export, top to bottom.

torch -> graph -> pipeline of the target -> verify -> (lint, engine) -> folder
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from waveedge.calibration import open_images
from waveedge.compression.recipe import make_recipe
from waveedge.errors import RecipeError
from waveedge.export.baseline import export_baseline
from waveedge.export.exact_networks import REWRITTEN, exact_networks, priced_otherwise
from waveedge.export.forms import Form, write_forms
from waveedge.export.free_sizes import FREE_NOTE, explained, resized
from waveedge.export.layers import layers_of
from waveedge.export.lint import Finding
from waveedge.export.lowering import lower
from waveedge.export.manifest import IMAGES, MODEL, PUBLISHED, make_manifest, write_json
from waveedge.export.targets import find_target
from waveedge.export.torch_to_onnx import Batch, to_onnx
from waveedge.export.verification import Verification
from waveedge.export.verify import outputs_of, verify
from waveedge.files import shown
from waveedge.filetypes import ENGINE
from waveedge.normalise import detached_copy
from waveedge.outputs import BUNDLE, new_folder
from waveedge.runtime.engine_builder import Build
from waveedge.runtime.manifest import MANIFEST
from waveedge.runtime.sizes import SizeRange, size_text
from waveedge.spec import ModelSpec

__all__ = ["Bundle", "export_model"]

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

_STEPS = 6
_IMAGES = 8
"""Images that a verification looks at; more do not find more."""

_TRAVELLING = 2
"""Images in a bundle, by which the device checks what it built; or a batch, where it is larger."""


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
    target: str,
    precision: str | None = None,
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
        target: name of one of :data:`~waveedge.export.targets.TARGETS`.
        precision: of floating-point layers, one of the target's; its default where None.
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
    place = find_target(target)
    precision = place.precision(precision)
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
        graph = lower(traced, target, precision)
        onnx.save(graph.shipped, folder / MODEL)

        step("verifying")
        compare = partial(
            verify,
            model,
            graph.encoded,
            shipped=graph.shipped,
            original=published,
            task=task,
            peak=high - low,
            run=place.runner(precision),
            reduced=precision != "float32",
        )
        with explained(sizes):
            verification = {"model": compare(batches)}
            at_sizes = {size: compare(resampled) for size, resampled in others.items()}

        networks = {_label(recipe): traced}
        if published is not None:
            step("exporting the baseline")
            baseline = export_baseline(
                published,
                shape,
                batch,
                sizes,
                [batches, *others.values()],
                task,
                place.runner("float32"),
            )
            verification["published"] = baseline.verification
            onnx.save(baseline.shipped, folder / PUBLISHED)
            networks["published"] = baseline.traced

        forms: list[Form] = []
        if place.builds_engines:
            notes += priced_otherwise(recipe, place.cost)
            step("writing the forms")
            # A network that is to stay as published is not rewritten here either.
            if published is not None and (recipe is not None or getattr(model, "applied", None)):
                networks |= exact_networks(
                    published,
                    shape,
                    images,
                    cost=place.cost,
                    known=(model, traced) if recipe is None else None,
                    batch=batch,
                    sizes=sizes,
                )
            present = {f"{_label(recipe)}-{precision}": MODEL}
            if published is not None:
                present["published-float32"] = PUBLISHED
            wanted = outputs_of(published if published is not None else model, batches)
            travelling = np.concatenate(batches)[: max(_TRAVELLING, len(batches[0]))]
            forms, left_out = write_forms(
                folder, place, networks, present, batches, wanted, len(travelling)
            )
            notes += left_out
            np.save(folder / IMAGES, travelling)

        step("building for the target")
        findings = place.lint(graph.shipped)
        build = place.build(folder, graph.shipped, sizes)
        executed = place.executed(folder / MODEL, layers, build, precision)

        step("writing")
        report = _report(place.runtime, verification, at_sizes, findings, build)
        write_json(folder / "verification.json", report)
        manifest = make_manifest(
            folder,
            name=shown(out.name),
            target=place.name,
            provider=place.provider(precision),
            precision=precision,
            spec=spec,
            graph=graph.shipped,
            sizes=sizes,
            baseline=PUBLISHED if published is not None else None,
            engine=ENGINE if (folder / ENGINE).exists() else None,
            recipe=recipe,
            autotune=autotune,
            forms=[form.to_dict() for form in forms],
            images=IMAGES if forms else None,
            layers=[layer.to_dict(layer.node in executed, precision) for layer in layers],
            source_sha256=source_sha256,
            artifact_sha256=artifact_sha256,
            notes=[*notes, *map(str, findings), *place.notes(build)],
        )
        write_json(folder / MANIFEST, manifest)
    step("done")
    return Bundle(out, manifest, report)


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


def _report(
    runtime: str,
    verification: dict[str, Verification],
    at_sizes: dict[str, Verification],
    findings: list[Finding],
    build: Build | None,
) -> dict[str, Any]:
    return {
        "runtime": runtime,
        **verification["model"].to_dict(),
        "at_sizes": {size: found.to_dict() for size, found in at_sizes.items()},
        "published": verification["published"].to_dict() if "published" in verification else None,
        "lint": [vars(finding) for finding in findings],
        "engine": build.to_dict() if build is not None else None,
    }


def _label(recipe: dict[str, Any] | None) -> str:
    """What a form is called: after its bits, or after what was done to it."""
    return REWRITTEN if recipe is None else make_recipe(recipe).label()


def _steps(progress: Progress | None) -> Callable[[str], None]:
    """Numbers the steps; without a baseline, and without forms, there are fewer."""
    done = iter(range(_STEPS))

    def step(what: str) -> None:
        if progress is not None:
            progress(what, _STEPS if what == "done" else next(done), _STEPS)

    return step
