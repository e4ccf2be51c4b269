"""What a user may give as images: a folder, a file, arrays, or anything that yields them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from waveedge.calibration.decode import Part, read, reason_of, unpack
from waveedge.calibration.folders import built_in_photos, find_files, photograph, shown
from waveedge.errors import ImageError

__all__ = ["PATIENCE", "Form", "Item", "Opened", "Source", "open_source"]

Source: TypeAlias = str | Path | NDArray[Any] | Tensor | Image.Image | Iterable[Any]

PATIENCE = 512
"""So many items in a row that bring nothing new are enough: there may be any number."""
_LIKELY_CHANNELS = (1, 3, 4)


class Form(NamedTuple):
    """Channels and (height, width) of an image; whether it is a network input, as floats are."""

    channels: int
    size: tuple[int, int]
    preprocessed: bool


@dataclass(frozen=True)
class Item:
    """One file, array or picture of a source.

    Attributes:
        name: what messages call it.
        picture: what is of one picture shall stay together.
        data: a path, an array, a Pillow image, or the exception that reading it raised.
    """

    name: Path | str
    picture: bytes
    data: Any

    def parts(
        self, *, channels: int, size: tuple[int, int], most: int, seed: int
    ) -> tuple[list[Part], list[str]]:
        """Return its images, and why parts cannot be used; see :func:`.decode.read`."""
        if isinstance(self.data, Path):
            return read(self.data, channels=channels, size=size, most=most, seed=seed)
        try:
            if isinstance(self.data, Exception):
                raise self.data
            return unpack(self.data, channels=channels, size=size, most=most, seed=seed), []
        except Exception as error:
            return [], [reason_of(error)]


@dataclass
class Opened:
    """A source, ready to be read.

    Attributes:
        place: where the images come from, in words.
        items: in an order that the seed chose; a stream's in its own.
        count: number of items; None for a stream.
        skipped: what was met and is not among the items, and why.
        in_memory: whether the user's program holds them.
    """

    place: str
    items: Iterator[Item]
    count: int | None
    skipped: list[tuple[Path | str, str]] = field(default_factory=list)
    in_memory: bool = True

    def form(self) -> Form | None:
        """Return the form of the first image in memory; None where there is none."""
        if not self.in_memory:
            return None
        met: list[Item] = []
        found = None
        for item in islice(self.items, PATIENCE):
            met.append(item)
            if found := _form(item.data):
                break
        self.items = chain(met, self.items)
        return found


def open_source(source: Source | None, seed: int) -> Opened:
    """Open what the user gave; None stands for the photos that come with waveedge.

    Raises:
        ImageError: it is nothing that holds images, or a folder without any.
    """
    if source is None:
        photos = built_in_photos()
        items = _in_random_order(photos, seed, photograph)
        place = f"the {len(photos)} real photos that come with waveedge, as no images were given"
        return Opened(place, items, len(photos), in_memory=False)
    if isinstance(source, str | Path):
        files, skipped = find_files(Path(source))
        place = f"{shown(source)} ({len(files)} file{'s'[: len(files) != 1]})"
        items = _in_random_order(files, seed, os.fsencode)
        return Opened(place, items, len(files), list(skipped), in_memory=False)
    kind = type(source).__name__
    if isinstance(source, np.ndarray | Tensor | Image.Image | Mapping):
        return Opened(f"one {kind} in memory", iter([_item(0, partial(_image_in, source))]), 1)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        indexed: Any = source
        order = list(range(len(indexed)))
        random.Random(seed).shuffle(order)
        drawn = (_item(index, partial(_image_at, indexed, index)) for index in order)
        return Opened(f"a {kind} of {len(order)} in memory", drawn, len(order))
    if isinstance(source, Iterable):
        return Opened(f"a {kind} in memory", _stream(source), None)
    raise ImageError(
        f"there are no images in a {kind}",
        hint="Give a folder, an array or a tensor (N, C, H, W), a list of them, or a DataLoader.",
    )


def _in_random_order(
    files: Sequence[Path], seed: int, key: Callable[[Path], bytes]
) -> Iterator[Item]:
    """Yield files in random order, those of one picture together."""
    groups: dict[bytes, list[Path]] = {}
    for path in files:
        groups.setdefault(key(path), []).append(path)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    return (Item(path, group, path) for group in order for path in sorted(groups[group]))


def _stream(source: Iterable[Any]) -> Iterator[Item]:
    index = 0
    try:
        for element in source:
            yield _item(index, partial(_image_in, element))
            index += 1
    except Exception as error:  # the user's own code
        raise ImageError(
            f"the {type(source).__name__} failed after {index} items: "
            f"{type(error).__name__}: {error}",
            hint="It must yield arrays or tensors (N, C, H, W), or (image, label) pairs.",
        ) from error


def _item(index: int, load: Callable[[], Any]) -> Item:
    data: Any
    try:
        data = load()
    except Exception as error:
        data = error
    return Item(data if isinstance(data, Path) else f"item {index}", b"%d" % index, data)


def _image_at(source: Any, index: int) -> Any:
    return _image_in(source[index])


def _image_in(element: Any) -> Any:
    """Return the image of an element: itself, or the first one of a tuple, a list or a dict."""
    if isinstance(element, Tensor):
        plain = element.detach().cpu()
        # numpy has no bfloat16.
        return (plain.float() if plain.is_floating_point() else plain).numpy()
    if isinstance(element, np.ndarray | Image.Image | Path):
        return element
    if isinstance(element, str):
        return Path(element)
    if isinstance(element, Mapping | tuple | list):
        parts = element.values() if isinstance(element, Mapping) else element
        for part in parts:
            if isinstance(part, np.ndarray | Tensor | Image.Image | Path):
                return _image_in(part)
    raise ImageError(f"there is no image in a {type(element).__name__}")


def _form(data: Any) -> Form | None:
    if isinstance(data, Image.Image):
        grey = data.mode in ("1", "L", "I", "I;16")
        return Form(1 if grey else 3, (data.height, data.width), False)
    if not isinstance(data, np.ndarray) or not 2 <= data.ndim <= 4:
        return None
    shape = data.shape
    if np.issubdtype(data.dtype, np.floating):
        return Form(shape[-3] if data.ndim > 2 else 1, (shape[-2], shape[-1]), True)
    if data.dtype != np.uint8:
        return None
    if data.ndim > 2 and shape[-1] in _LIKELY_CHANNELS:
        return Form(shape[-1], (shape[-3], shape[-2]), False)
    first = shape[-3] if data.ndim > 2 else 1
    return Form(first if first in _LIKELY_CHANNELS else 1, (shape[-2], shape[-1]), False)
