"""Whether an engine computes what its form does, on the images that travel in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waveedge.decibels import snr_db
from waveedge.errors import VerificationError
from waveedge.runtime.backend import Array, Backend, OnnxBackend
from waveedge.runtime.bits import has_integers
from waveedge.runtime.bundle import Bundle
from waveedge.runtime.travelling import travelling_batches, travelling_outputs

__all__ = ["FLOAT32_DB", "LEAST_DB", "compare", "least_db"]

FLOAT32_DB = 50.0
"""Of an engine in float32 without integers to its form on onnxruntime. TensorRT multiplies in TF32
where the graph says float32: with factors rounded so, the networks of the examples are at 68 to
78 dB, as published and rewritten."""

LEAST_DB = 30.0
"""The same of all others: TensorRT rounds sums of float16 in another order, and breaks ties of
integers in another way; what is further off is another network."""

_TWICE_DB = 6.1
"""An engine rounds to bfloat16 in fewer places than what export wrote. Each of the two is off by
about the form's own loss, so that they differ by twice that at most."""

_FAR = 200.0


def compare(bundle: Bundle, form: Mapping[str, Any], engine: Backend) -> float | None:
    """Signal-to-noise ratio of an engine to its form, at worst; None without images.

    What the form computes is found by onnxruntime here, and where that cannot run it (bfloat16) by
    what export wrote beside it.

    Raises:
        VerificationError: it is another network.
        ArtifactError: what travels in the bundle cannot be read.
    """
    batches = travelling_batches(bundle, engine.inputs[0])
    written = travelling_outputs(bundle, form)
    least = least_db(bundle, form)
    expected = _by_onnxruntime(bundle, form, batches) if written is None else _cut(written, batches)
    figures = [
        snr_db(wanted, found) if wanted.shape == found.shape else -_FAR
        for outputs, images in zip(expected, batches, strict=True)
        for wanted, found in zip(outputs, engine.run(images), strict=True)
    ]
    if not figures:
        return None
    worst = min(figures)
    if worst < least:
        raise VerificationError(
            f"the engine of {form['file']} is {worst:.1f} dB from "
            f"{'onnxruntime' if written is None else 'its form'} on the bundle's images, "
            f"asked for {least:.0f}",
            hint="It was not kept. Please report the network, TensorRT's version and the GPU.",
        )
    return min(worst, _FAR)


def least_db(bundle: Bundle, form: Mapping[str, Any]) -> float:
    """How near an engine must come to its form, in dB."""
    if form["precision"] == "bfloat16":
        return min(LEAST_DB, float(form["snr_db"]) - _TWICE_DB)
    exact = form["precision"] == "float32" and not has_integers(form, bundle.manifest)
    return FLOAT32_DB if exact else LEAST_DB


def _by_onnxruntime(
    bundle: Bundle, form: Mapping[str, Any], batches: list[Array]
) -> list[list[Array]]:
    backend = OnnxBackend(
        bundle.path / form["file"],
        threads=1,
        provider="CPUExecutionProvider",
        arena=True,
        as_written=True,
    )
    return [backend.run(images) for images in batches]


def _cut(outputs: list[Array], batches: list[Array]) -> list[list[Array]]:
    """Outputs of all images, one batch after another."""
    starts = range(0, sum(map(len, batches)), len(batches[0])) if batches else ()
    return [
        [whole[start : start + len(images)] for whole in outputs]
        for start, images in zip(starts, batches, strict=True)
    ]
