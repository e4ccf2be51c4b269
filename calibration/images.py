"""The images a network is calibrated with, and others, held out, to judge the result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waveedge.calibration.decode import Raw
from waveedge.calibration.folders import nothing_usable, shown
from waveedge.calibration.sources import PATIENCE, Opened, Source, open_source
from waveedge.calibration.suspicions import Look, look_at, suspicions
from waveedge.calibration.views import at_full_resolution, halves, network_inputs
from waveedge.errors import ImageError, RecipeError
from waveedge.models.build import check_input_size
from waveedge.spec import ModelSpec

__all__ = ["ImageSet", "open_images"]

# Windows of one picture resemble each other: more of them add little.
_MOST_WINDOWS = 8
_FEW = 8


class _Input(NamedTuple):
    """The picture it was cut from, what messages call it, and the array.

    What is of one picture stays on one side.
    """

    picture: bytes
    name: str
    array: NDArray[np.float32]


@dataclass(frozen=True)
class ImageSet:
    """Network inputs, preprocessed: some to calibrate with, others to judge the result.

    Attributes:
        calibration: float32 arrays (1, C, H, W).
        held_out: the same, of other images; no picture is on both sides.
        source: where they come from, in words.
        fingerprint: SHA-256 over all arrays and the preprocessing.
        skipped: files and items that were met and not used, and why.
        notes: what the user should know before trusting the result.
        suspicions: why these can hardly be images of the kind that the network will see.
        found: number of files in the folder.
        names: what messages call the images: file or index, those to calibrate with first.
    """

    calibration: list[NDArray[np.float32]]
    held_out: list[NDArray[np.float32]]
    source: str
    fingerprint: str
    skipped: list[tuple[Path | str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    suspicions: tuple[str, ...] = ()
    found: int = 0
    names: tuple[str, ...] = ()

    @property
    def judged(self) -> list[NDArray[np.float32]]:
        """The images that judge the result: those held out, or all where none is."""
        return self.held_out or self.calibration

    @property
    def judged_names(self) -> tuple[str, ...]:
        """What messages call :attr:`judged`."""
        return self.names[len(self.calibration) :] or self.names

    def summary(self) -> str:
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
            lines.append(f"{len(self.skipped)} skipped:")
            lines += [f"  {shown(name)}: {reason}" for name, reason in self.skipped[:5]]
            if len(self.skipped) > 5:
                lines.append(f"  and {len(self.skipped) - 5} more")
        return "\n".join(lines)

    def describe(self) -> str:
        """Return the summary, and under it what is suspicious."""
        return "\n".join([self.summary(), *(f"Suspicious: {one}" for one in self.suspicions)])


def open_images(
    source: Source | ImageSet | None,
    *,
    spec: ModelSpec | None = None,
    channels: int = 3,
    size: tuple[int, int] | None = None,
    limit: int = 64,
    held_out: int = 16,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read images for a network: up to ``limit`` to calibrate it and ``held_out`` to judge it.

    Source, one of

    * a folder, of which files are drawn at random, also from the folders in it; hidden files are
      left out and links to folders not followed. Or one file;
    * an array or a tensor: floats (N, C, H, W) or (C, H, W) are the network's own input, already
      preprocessed; uint8 are pictures, channels first or last, to be preprocessed as the spec says;
    * a list or a dataset of such, or of Pillow images or paths, drawn from at random;
    * a DataLoader or another iterable of such; its first images are taken;

    where (image, label, ...) tuples, lists and dicts stand for the first image in them. The user's
    arrays are copied, never changed.

    See :func:`~waveedge.calibration.decode.read` for what a file may hold and
    :func:`~waveedge.calibration.views.network_inputs` for how it becomes an input. With fewer
    images than asked for, one in four is held out; a lone picture is cut in two. Pictures met
    twice are used once.

    Args:
        source: see above; None for the photos that come with waveedge. An image set is returned as
            it is.
        spec: gives channels, preprocessing, task, and the size where nothing else does. Without
            one the network takes images of the form that they have, and pixels as 0 .. 1.
        channels: what the network takes, where neither a spec nor an array tells.
        size: (height, width) of the inputs, in pixels. By default float arrays keep theirs.
        limit: most calibration images, at least 1.
        held_out: most held-out images; 0 for none.
        seed: decides which images are taken, and which of them are held out.
        progress: called with (images read, images wanted) as files are read.

    Raises:
        ImageError: the source is missing or empty, or holds no usable image, or only one.
        InputError: the network does not take images of that size.
        RecipeError: a number of images or the preprocessing makes no sense.
    """
    if isinstance(source, ImageSet):
        return source
    opened = open_source(source, seed)
    form = opened.form() if spec is None or size is None else None
    if form and size is None and (form.preprocessed or spec is None):
        size = form.size
    if spec is None:
        spec = ModelSpec(family="custom", channels=form.channels if form else channels)
    size = size or spec.input_size
    _check(spec, size, limit, held_out)
    read = _Reading(opened, spec, size, limit + held_out, seed, progress or (lambda *_: None))
    if not read.inputs:
        raise nothing_usable(opened.place, opened.skipped)
    place, notes = opened.place, read.notes()
    if held_out and len({item.picture for item in read.inputs}) == 1:
        if not isinstance(read.lone, Image.Image):
            raise ImageError(
                f"{place} holds a single usable image, so none can be held out to judge the result",
                hint="Add images: 32 to 64 like those the network will see are good.",
            )
        parts = [
            network_inputs(half, spec=spec, size=size, most=limit) for half in halves(read.lone)
        ]
        calibration, judged = parts[0][:limit], parts[1][:held_out]
        names = [read.inputs[0].name] * (len(calibration) + len(judged))
        place += " (its only picture, cut in two: one half calibrates, the other is held out)"
    else:
        sides = _split(read.inputs, limit, held_out)
        calibration, judged = ([item.array for item in side] for side in sides)
        names = [item.name for side in sides for item in side]
    if source is None:
        names = [f"the built-in photo {Path(name).name}" for name in names]
        notes.append("Give images like those the network will see with --calib FOLDER.")
    if len(calibration) < _FEW:
        notes.append(
            f"{_count(len(calibration), 'image')} to calibrate is few: the ranges are rough."
        )
    odd = suspicions(
        read.looks,
        [*calibration, *judged],
        spec,
        read=read.items,
        repeated=read.repeated,
    )
    return ImageSet(
        calibration=calibration,
        held_out=judged,
        source=place,
        fingerprint=_fingerprint(calibration, judged, spec),
        skipped=opened.skipped,
        notes=notes,
        suspicions=odd,
        found=opened.count or read.items,
        names=tuple(names),
    )


class _Reading:
    """Up to ``want`` inputs out of a source, read until they are found.

    Attributes:
        inputs: what was found.
        looks: at every image of them.
        lone: the image where they all come from a single one.
        items: number of files or items that were read.
        repeated: images that had been met before.
    """

    def __init__(
        self,
        opened: Opened,
        spec: ModelSpec,
        size: tuple[int, int],
        want: int,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self.inputs: list[_Input] = []
        self.looks: list[Look] = []
        self.lone: Raw | None = None
        self.items = self.repeated = 0
        self.opened = opened
        met: dict[bytes, Path | str] = {}
        last = 0  # the item that last brought something new
        for item in opened.items:
            parts, reasons = item.parts(channels=spec.channels, size=size, most=want, seed=seed)
            self.items += 1
            opened.skipped += [(item.name, reason) for reason in reasons]
            most = 1
            if at_full_resolution(spec) and parts and opened.count:
                most = min(_MOST_WINDOWS, -(-want // (opened.count * len(parts))))
            for part, raw in parts:
                views = network_inputs(raw, spec=spec, size=size, most=most)
                digest = hashlib.sha256(b"".join(view.tobytes() for view in views)).digest()
                if digest in met:
                    self.repeated += 1
                    reason = f"the same picture as {shown(met[digest])}"
                    opened.skipped.append((item.name, reason))
                    continue
                met[digest], last = item.name, self.items
                self.lone = raw if len(met) == 1 else None
                self.looks.append(look_at(item.name, raw, spec))
                picture = item.picture + f"/{part}".encode() if part else item.picture
                name = ", ".join(word for word in (shown(item.name), part) if word)
                self.inputs += [_Input(picture, name, view) for view in views]
            progress(min(len(self.inputs), want), want)
            # Where nothing was found yet, all files of a folder are tried.
            given_up = self.items - last >= PATIENCE and (met or opened.count is None)
            if len(self.inputs) >= want or given_up:
                break
        del self.inputs[want:]

    def notes(self) -> list[str]:
        """What the user should know of how it was read."""
        notes = []
        if self.opened.count and self.items < self.opened.count:
            notes.append(f"{self.items} of {self.opened.count}, drawn at random, were read.")
        if self.opened.in_memory and any(look.size is None for look in self.looks):
            notes.append("Float arrays are taken as the network's own input, preprocessed.")
        if self.opened.in_memory and any(look.size for look in self.looks):
            notes.append("Pictures (uint8) are preprocessed as for files.")
        return notes


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
) -> tuple[Sequence[_Input], Sequence[_Input]]:
    """Cut the inputs in two, between two pictures."""
    total = len(inputs)
    if total < limit + held_out:
        held_out = min(held_out, max(1, total // 4, total - limit))
    border = total - held_out
    pictures = [item.picture for item in inputs]
    while held_out and border > 1 and pictures[border - 1] == pictures[border]:
        border -= 1
    if held_out and pictures[border - 1] == pictures[border]:
        border = next(i for i in range(1, total) if pictures[i - 1] != pictures[i])
    return inputs[:border][:limit], inputs[border:][:held_out]


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
