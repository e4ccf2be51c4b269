"""The forms of a network that a bundle for TensorRT carries, for the device to choose from.

Which one is fastest there no desk can tell: rewrites and integers that pay on one GPU cost time on
another. So the bundle has the network as published, its exact rewrite, the same without border
pieces where that is another one, and as it was compressed, in float32, float16 and bfloat16, each
compared with the user's network.

onnxruntime on a device's CPU runs no bfloat16, so that what a form in it computes cannot be found
there: its outputs for the bundle's images travel beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.decibels import snr_db
from waveedge.errors import WaveedgeError
from waveedge.export.lowering import lower
from waveedge.export.target import Target

__all__ = ["LEAST_DB", "Form", "write_forms"]

LEAST_DB = 20.0
"""Of a form to the user's network: what is further off is no choice, and is left out."""

_FAR = 200.0

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Form:
    """One ONNX file of a bundle.

    Attributes:
        name: such as ``published-float16``.
        file: in the bundle.
        precision: of floating-point layers.
        snr_db: to the user's network, on the images of the verification, at worst.
        outputs: the file with what it computes of the bundle's images, where no onnxruntime can
            say; else None.
    """

    name: str
    file: str
    precision: str
    snr_db: float
    outputs: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form's entry in the manifest."""
        return asdict(self)


def write_forms(
    folder: Path,
    target: Target,
    networks: Mapping[str, ir.Model],
    present: Mapping[str, str],
    batches: Sequence[Array],
    wanted: Sequence[Sequence[Array]],
    travelling: int,
) -> tuple[list[Form], list[str]]:
    """Write every network in every precision of a target, where it is not there yet.

    Args:
        folder: the bundle.
        target: that builds engines.
        networks: name -> a network as ``to_onnx`` gives it.
        present: name of a form -> the file that has it already.
        batches: images to compare on.
        wanted: the outputs of the user's network, for each batch.
        travelling: how many images travel in the bundle, the first of the batches.

    Returns:
        the forms, and a sentence about each that was left out.
    """
    forms, notes = [], []
    for name, precision, traced in _all(target, networks):
        file = present.get(name, f"{name}.onnx")
        try:
            if name in present:
                graph = onnx.load(folder / file)
            else:
                graph = lower(traced, target.name, precision).shipped
            if refused := target.refusal(graph, precision):
                notes.append(f"left out: the form {name}: {refused}")
                continue
            found = target.runner(precision)(graph, batches)
            quality = _worst(wanted, found)
        except WaveedgeError as error:
            notes.append(f"left out: the form {name}: {error.what}")
            continue
        if quality < LEAST_DB and name not in present:
            notes.append(f"left out: the form {name}: {quality:.1f} dB to your network")
            continue
        if name not in present:
            onnx.save(graph, folder / file)
        outputs = None
        if precision == "bfloat16":
            outputs = f"{name}.npz"
            np.savez(folder / outputs, *_first(found, travelling))
        forms.append(Form(name, file, precision, quality, outputs))
    return forms, notes


def _first(found: Sequence[Sequence[NDArray[Any]]], images: int) -> list[NDArray[Any]]:
    """Each output, for as many images."""
    return [np.concatenate(parts)[:images] for parts in zip(*found, strict=True)]


def _all(target: Target, networks: Mapping[str, ir.Model]) -> Iterator[tuple[str, str, ir.Model]]:
    for name, traced in networks.items():
        for precision in target.form_precisions:
            yield f"{name}-{precision}", precision, traced


def _worst(wanted: Sequence[Sequence[Array]], found: Sequence[Sequence[NDArray[Any]]]) -> float:
    pairs = [
        pair
        for one, other in zip(wanted, found, strict=True)
        for pair in zip(one, other, strict=True)
    ]
    figures = [snr_db(a, b) if a.shape == b.shape else -_FAR for a, b in pairs]
    return min(max(min(figures), -_FAR), _FAR)
