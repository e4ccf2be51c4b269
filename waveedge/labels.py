"""The user's own labels: the class of every image, in a file beside a folder, or in memory."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from waveedge.calibration import ImageSet, Source
from waveedge.calibration.folders import shown
from waveedge.compression.scores import Labels
from waveedge.errors import InputError
from waveedge.files import require_regular

__all__ = ["Classes", "LabelSource", "images_wanted", "in_order", "read_labels"]

_MOST_BYTES = 64 << 20
_PIXELS = 2**25
"""Of the images to learn from: half a gigabyte with three channels, held-out ones included."""
_HEADER = ["name", "class"]
_FORM = "Each line is a file's name in the folder of images, a comma and a class: cats/1.jpg,3"


@dataclass(frozen=True)
class Classes:
    """A class for every image, before it is known which images are used.

    Attributes:
        place: what messages call them.
        by_name: class by the name that an image set gives the image; empty where that is an image
            set's own order.
        listed: classes in the order of an image set.
    """

    place: str
    by_name: Mapping[str, int] = field(repr=False)
    listed: tuple[int, ...] = field(default=(), repr=False)

    def of(self, images: ImageSet, outputs: int) -> Labels:
        """The labels of the images that are used, for a network of so many outputs.

        Raises:
            InputError: an image has none, or a class is beyond the outputs.
        """
        self._check(outputs)
        found = self.listed or self._named(images)
        classes = np.array(found, np.int64)
        used = len(images.calibration)
        judged = classes[used:] if images.held_out else classes
        return Labels(trained=classes[:used], judged=judged)

    def _named(self, images: ImageSet) -> list[int]:
        without = [name for name in images.names if name not in self.by_name]
        if without:
            raise InputError(
                f"{self.place} has no class for {len(without)} of the {len(images.names)} images, "
                f"the first of them {without[0]}",
                hint="Every image needs one, and a file or an item of its own.",
            )
        return [self.by_name[name] for name in images.names]

    def _check(self, outputs: int) -> None:
        pairs = [*self.by_name.items(), *((f"image {i}", c) for i, c in enumerate(self.listed))]
        for name, number in pairs:
            if not 0 <= number < outputs:
                raise InputError(
                    f"{self.place} has class {number} for {name}, and the network has {outputs} "
                    f"outputs: classes 0 to {outputs - 1}",
                    hint="Classes are numbered as the network was trained, from 0.",
                )


LabelSource: TypeAlias = Classes | NDArray[Any] | Tensor | Sequence[int] | str | Path
"""A file of names and classes, or a class for each image, in their order."""


def images_wanted(size: tuple[int, int]) -> tuple[int, int]:
    """How many images of (height, width) are learnt from where they have labels, and held out.

    More than where a teacher answers for each of a million pixels: a label is a single number.
    """
    learnt = max(64, min(512, _PIXELS // (size[0] * size[1])))
    return learnt, learnt // 4


def read_labels(path: Path, folder: Path) -> Classes:
    """Read a file of lines ``name,class``, of images in ``folder``; a first such line is a header.

    Args:
        path: UTF-8, at most 64 MiB.
        folder: that names are relative to; images that are in folders of it have these before
            their name: ``cats/1.jpg``.

    Raises:
        InputError: it cannot be read, or a line is something else or repeats a name.
    """
    require_regular(path)
    place = shown(path)
    try:
        with path.open("rb") as file:
            octets = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{place} cannot be read: {error.strerror}", hint="Check the path of --labels."
        ) from error
    if len(octets) > _MOST_BYTES:
        raise InputError(f"{place} is too long: at most 64 MiB are read", hint=_FORM)
    # Names of files may be of any bytes, as in a folder.
    text = octets.decode("utf-8-sig", "surrogateescape")
    found: dict[str, int] = {}
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            row = [field.strip() for field in row]
            if row in ([], [""]) or (rows.line_num == 1 and row == _HEADER):
                continue
            name, number = _pair(row, f"{place}, line {rows.line_num}")
            key = shown(folder / name)
            if key in found:
                raise InputError(
                    f"{place}, line {rows.line_num}: {shown(name)} has a class already",
                    hint="Give every image one class.",
                )
            found[key] = number
    except csv.Error as error:
        raise InputError(f"{place}, line {rows.line_num}: {error}", hint=_FORM) from error
    if not found:
        raise InputError(f"{place} holds no labels", hint=_FORM)
    return Classes(place, found)


def _pair(row: Sequence[str], where: str) -> tuple[str, int]:
    if len(row) != 2 or not row[0]:
        raise InputError(f"{where}: it is not a name and a class", hint=_FORM)
    name, number = row
    if not re.fullmatch(r"[0-9]{1,9}", number):
        raise InputError(
            f"{where}: {shown(number[:40])!r} is no class, which is a whole number from 0",
            hint=_FORM,
        )
    return name, int(number)


def in_order(
    labels: LabelSource, images: Source | ImageSet | None
) -> tuple[Classes, Source | ImageSet]:
    """Return the labels of a source of images, and the source, image by image.

    Raises:
        InputError: they are no classes, or not as many as there are images; or the images have no
            order that labels could refer to.
    """
    if isinstance(labels, str | Path):
        if not isinstance(images, str | Path):
            raise InputError(
                "a file of labels names images of a folder, and no folder is given",
                hint="Give the folder as images, or the labels as an array.",
            )
        return read_labels(Path(labels), Path(images)), images
    if images is None:
        raise InputError(
            "labels are given, and no images", hint="Give the images that they are of."
        )
    if isinstance(labels, Classes):
        return labels, images
    numbers = _numbers(labels)
    if isinstance(images, ImageSet):
        _check_count(numbers, len(images.calibration) + len(images.held_out))
        return Classes("the array of labels", {}, numbers), images
    if isinstance(images, str | Path) or not hasattr(images, "__getitem__"):
        raise InputError(
            f"labels in an array need images in an order, and a {type(images).__name__} has none",
            hint="Give an array, a list or a dataset of images; for a folder, a file of labels.",
        )
    items: Any = images
    _check_count(numbers, len(items))
    # A source calls its items so; of an array, each image is one.
    named = {f"item {index}": number for index, number in enumerate(numbers)}
    source = list(items) if isinstance(images, np.ndarray | Tensor) else images
    return Classes("the array of labels", named), source


def _numbers(labels: Any) -> tuple[int, ...]:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"the labels are of shape {array.shape} and type {array.dtype}, not a whole number "
            "for each image",
            hint="Give the class of each image, from 0: an array of integers (N,).",
        )
    return tuple(array.tolist())


def _check_count(numbers: Sequence[int], images: int) -> None:
    if len(numbers) != images:
        raise InputError(
            f"there are {len(numbers)} labels and {images} images",
            hint="Give one label an image, in their order.",
        )
