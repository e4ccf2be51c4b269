"""The images a network is calibrated with, and others, held out, to judge the result."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waveedge.calibration.decode import Raw, read
from waveedge.calibration.folders import (
    built_in_photos,
    find_files,
    in_random_order,
    nothing_usable,
    photograph,
    shown,
)
from waveedge.calibration.views import at_full_resolution, halves, network_inputs
from waveedge.errors import ImageError, RecipeError
from waveedge.models.build import check_input_size
from waveedge.spec import ModelSpec

__all__ = ["ImageSet", "open_images"]

# Windows of one picture resemble each other: more of them add little.
_MOST_WINDOWS = 8
_FEW = 8

_Input = tuple[bytes, NDArray[np.float32]]
"""The picture it was cut from, and the array; what is of one picture stays on one side."""


@dataclass(frozen=True)
class ImageSet:
    """Network inputs, preprocessed: some to calibrate with, others to judge the result.

    Attributes:
        calibration: float32 arrays (1, C, H, W).
        held_out: the same, of other images; no picture is on both sides.
        source: where they come from, in words.
        fingerprint: SHA-256 over all arrays and the preprocessing.
        skipped: files that were met and not used, and why.
        notes: what the user should know before trusting the result.
        found: number of files in the folder.
    """

    calibration: list[NDArray[np.float32]]
    held_out: list[NDArray[np.float32]]
    source: str
    fingerprint: str
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: int = 0

    def describe(self) -> str:
        """Return a few lines of text: how many, what shape and values, from where, what failed."""
        _, channels, height, width = self.calibration[0].shape
        low = min(float(image.min()) for image in self.calibration)
        high = max(float(image.max()) for image in self.calibration)
        images = _count(len(self.calibration), "image")
        lines = [
            f"{images} to calibrate, {len(self.held_out)} held out, "
            f"{channels}x{height}x{width}, values {low:.3g} to {high:.3g}",
            f"from {self.source}",
            *self.notes,
        ]
        if self.skipped:
            lines.append(f"{_count(len(self.skipped), 'file')} skipped:")
            lines += [f"  {shown(path)}: {reason}" for path, reason in self.skipped[:5]]
            if len(self.skipped) > 5:
                lines.append(f"  and {len(self.skipped) - 5} more")
        return "\n".join(lines)


def open_images(
    folder: Path | None,
    *,
    spec: ModelSpec,
    size: tuple[int, int] | None = None,
    limit: int = 64,
    held_out: int = 16,
    seed: int = 0,
) -> ImageSet:
    """Read images for a network: up to ``limit`` to calibrate it and ``held_out`` to judge it.

    Files are drawn at random (by ``seed``) from the folder and all folders in it, links followed
    once, hidden ones left out. See :func:`~waveedge.calibration.decode.read` for what a file may
    hold and :func:`~waveedge.calibration.views.network_inputs` for how it becomes an input. With
    fewer images than asked for, one in four is held out; a lone picture is cut in two. Pictures
    met twice are used once.

    Args:
        folder: a folder, or one file; None for the photos that come with waveedge.
        spec: gives channels, preprocessing, task, and the size where ``size`` is None.
        size: (height, width) of the inputs, in pixels.
        limit: most calibration images, at least 1.
        held_out: most held-out images; 0 for none.
        seed: decides which files are taken, and which of them are held out.

    Raises:
        ImageError: the folder is missing or empty, or holds no usable image, or only one.
        InputError: the network does not take images of that size.
        RecipeError: a number of images or the preprocessing makes no sense.
    """
    size = size or spec.input_size
    _check(spec, size, limit, held_out)
    files, skipped = (built_in_photos(), []) if folder is None else find_files(folder)
    grouped = in_random_order(files, seed, photograph if folder is None else os.fsencode)
    inputs, lone = _gather(grouped, skipped, spec, size, limit + held_out, seed)
    if not inputs:
        raise nothing_usable(folder, skipped)
    if folder is None:
        place = f"the {len(files)} real photos that come with waveedge, as no folder was given"
    else:
        place = f"{shown(folder)} ({_count(len(files), 'file')})"
    notes: list[str] = []
    if held_out and len({picture for picture, _ in inputs}) == 1:
        if not isinstance(lone, Image.Image):
            raise ImageError(
                f"{place} holds a single usable image, so none can be held out to judge the result",
                hint="Add images: 32 to 64 like those the network will see are good.",
            )
        parts = [network_inputs(half, spec=spec, size=size, most=limit) for half in halves(lone)]
        calibration, judged = parts[0][:limit], parts[1][:held_out]
        place += " (its only picture, cut in two: one half calibrates, the other is held out)"
    else:
        calibration, judged = _split(inputs, limit, held_out)
    if folder is None:
        notes.append("Give images like those the network will see with --calib FOLDER.")
    if len(calibration) < _FEW:
        notes.append(
            f"{_count(len(calibration), 'image')} to calibrate is few: the ranges are rough."
        )
    notes += _odd_values(calibration, spec)
    return ImageSet(
        calibration=calibration,
        held_out=judged,
        source=place,
        fingerprint=_fingerprint(calibration, judged, spec),
        skipped=skipped,
        notes=notes,
        found=len(files),
    )


def _gather(
    files: Sequence[tuple[bytes, Path]],
    skipped: list[tuple[Path, str]],
    spec: ModelSpec,
    size: tuple[int, int],
    want: int,
    seed: int,
) -> tuple[list[_Input], Raw | None]:
    """Return up to ``want`` inputs, and the picture where they all come from a single one.

    Appends to ``skipped``.
    """
    windows = min(_MOST_WINDOWS, -(-want // len(files))) if at_full_resolution(spec) else 1
    inputs: list[_Input] = []
    met: dict[bytes, Path] = {}
    lone: Raw | None = None
    for group, path in files:
        if len(inputs) >= want:
            break
        raws, reasons = read(path, channels=spec.channels, size=size, most=want, seed=seed)
        skipped += [(path, reason) for reason in reasons]
        for row, raw in enumerate(raws):
            views = network_inputs(raw, spec=spec, size=size, most=windows)
            digest = hashlib.sha256(b"".join(view.tobytes() for view in views)).digest()
            if digest in met:
                skipped.append((path, f"the same picture as {shown(met[digest])}"))
                continue
            met[digest] = path
            lone = raw if len(met) == 1 else None
            picture = group if len(raws) == 1 else group + b"/%d" % row
            inputs += [(picture, view) for view in views]
    return inputs[:want], lone


def _check(spec: ModelSpec, size: tuple[int, int], limit: int, held_out: int) -> None:
    check_input_size(spec, size)
    if limit < 1 or held_out < 0:
        raise RecipeError(
            f"cannot calibrate with {limit} images and hold out {held_out}",
            hint="Use at least 1 image to calibrate, and 0 or more to hold out.",
        )
    for name in ("mean", "std"):
        values = getattr(spec.preprocessing, name)
        if len(values) not in (1, spec.channels):
            raise RecipeError(
                f"{name} has {len(values)} values, and the network takes {spec.channels} channels",
                hint=f"Give one value, or one per channel, with --set {name}=...",
            )


def _split(
    inputs: Sequence[_Input], limit: int, held_out: int
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Cut the inputs in two, between two pictures."""
    total = len(inputs)
    if total < limit + held_out:
        held_out = min(held_out, max(1, total // 4, total - limit))
    border = total - held_out
    while held_out and border > 1 and inputs[border - 1][0] == inputs[border][0]:
        border -= 1
    if held_out and inputs[border - 1][0] == inputs[border][0]:
        border = next(i for i in range(1, total) if inputs[i - 1][0] != inputs[i][0])
    arrays = [array for _, array in inputs]
    return arrays[:border][:limit], arrays[border:][:held_out]


def _odd_values(images: Sequence[NDArray[np.float32]], spec: ModelSpec) -> list[str]:
    """Catch the commonest mistake with float arrays: pixels that were never preprocessed."""
    rules = spec.preprocessing
    ends = [(end - np.array(rules.mean)) / np.array(rules.std) for end in rules.range]
    low, high = float(np.min(ends)), float(np.max(ends))
    span = high - low
    least = min(float(image.min()) for image in images)
    most = max(float(image.max()) for image in images)
    if least < low - span or most > high + span:
        return [
            f"Values run from {least:.3g} to {most:.3g}, but preprocessed pixels run from "
            f"{low:.3g} to {high:.3g}: are the float arrays really preprocessed?"
        ]
    return []


def _fingerprint(
    calibration: Sequence[NDArray[np.float32]],
    held_out: Sequence[NDArray[np.float32]],
    spec: ModelSpec,
) -> str:
    digest = hashlib.sha256(spec.preprocessing.model_dump_json().encode())
    for images in (calibration, held_out):
        digest.update(b"|%d" % len(images))
        for image in images:
            digest.update(repr(image.shape).encode() + image.astype("<f4").tobytes())
    return digest.hexdigest()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
