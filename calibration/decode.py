"""Reads one image or array, and says in words why one cannot be used."""

from __future__ import annotations

import random
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from waveedge.errors import ImageError

__all__ = ["Part", "Raw", "read", "reason_of", "unpack"]

Raw = Image.Image | NDArray[np.float32]
"""A picture in the network's Pillow mode, or a preprocessed float32 array (1, C, H, W)."""


class Part(NamedTuple):
    """One image of a file or an array.

    Attributes:
        name: what tells it from the others; empty where it is alone.
        image: see :data:`Raw`.
    """

    name: str
    image: Raw

    def within(self, array: str) -> Part:
        """The same, of one array of several."""
        return self._replace(name=", ".join(word for word in (array, self.name) if word))


# Formats with a reliable signature, decoded inside Pillow (EPS, for one, would start Ghostscript).
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_MOST_BYTES = 4 << 30


def read(
    path: Path, *, channels: int, size: tuple[int, int], most: int, seed: int
) -> tuple[list[Part], list[str]]:
    """Read what a file holds: one picture, or up to ``most`` images of an array file.

    Pictures (Pillow): the first frame, turned as its EXIF says, with alpha dropped as training
    loaders do, 16-bit grey scaled by 1/257, converted to grey (1 channel), RGB (3) or RGBA (4).

    Arrays (``.npy``, every array of an ``.npz``; pickles are never loaded):

    * uint8: pictures, (H, W), (H, W, C), (N, H, W), (N, H, W, C); channels may also come first.
    * floating point: already preprocessed, (C, H, W) or (N, C, H, W), of the network's channels
      and exactly ``size``; (H, W) for one channel.

    Args:
        path: a regular file.
        channels: input channels of the network.
        size: (height, width) that float arrays must have.
        most: of a stack, at most this many images are drawn at random, by ``seed``.
        seed: see ``most``.

    Returns:
        The images, and for each part that cannot be used a reason. Never raises for what the file
        holds.
    """
    images: list[Part] = []
    reasons: list[str] = []
    # Decoders raise all kinds of exceptions on damaged data; whatever it is, the file is unusable.
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would never end
            raise ImageError("it is not a regular file")
        if status.st_size == 0:
            raise ImageError("the file is empty")
        if path.suffix.lower() not in (".npy", ".npz"):
            return [Part("", _picture(path, channels))], []
        for name, array in _arrays(path):
            try:
                parts = unpack(array, channels=channels, size=size, most=most, seed=seed)
                images += [part.within(name) for part in parts]
            except ImageError as error:
                reasons.append(f"{name}: {error.what}" if name else error.what)
    except Exception as error:
        reasons.append(reason_of(error))
    return images, reasons


def reason_of(error: Exception) -> str:
    """Say in one line why an image cannot be used."""
    if isinstance(error, ImageError):
        return error.what
    text = error.strerror if isinstance(error, OSError) else None
    lines = (text or str(error)).splitlines()
    return f"it cannot be read ({lines[0][:120] if lines else type(error).__name__})"


def _picture(path: Path, channels: int) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which does not matter here, and of enormous pictures.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=_FORMATS) as image:
                image.load()
                return _in_mode(ImageOps.exif_transpose(image), channels)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
            raise ImageError(f"it has more than {limit:.0f} million pixels; shrink it") from error
        except UnidentifiedImageError as error:
            raise ImageError("it is not an image in a format that waveedge reads") from error


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    _check_channels(channels)
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError("its pixels are 32-bit integers, which have no fixed range")
        image = Image.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ImageError("its pixels are floats, which have no fixed range; give a .npy array")
    return image.convert(_MODES[channels])


def _check_channels(channels: int) -> None:
    if channels not in _MODES:
        raise ImageError(
            f"pictures have 1, 3 or 4 channels and the network takes {channels}; "
            "give preprocessed float arrays (.npy)"
        )


def _arrays(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (label for messages, array), never unpickling anything."""
    if path.suffix.lower() == ".npz":
        if not zipfile.is_zipfile(path):
            raise ImageError("it is not a whole .npz archive")
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
        if total > _MOST_BYTES:
            raise ImageError(f"it unpacks to {total / 2**30:.0f} GiB; split it into .npy files")
        with np.load(path, allow_pickle=False) as members:
            for name in sorted(members.files):
                yield f"array '{name}'", _unpickled(partial(members.__getitem__, name))
    else:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ImageError("it is not a .npy array")
        # Mapped, so that a stack of any length costs no memory.
        yield "", _unpickled(lambda: np.load(path, mmap_mode="r", allow_pickle=False))


def _unpickled(load: Callable[[], Any]) -> NDArray[Any]:
    try:
        array = load()
    except ValueError as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise ImageError("it holds Python objects, which are never loaded") from error
        raise
    if not isinstance(array, np.ndarray):
        raise ImageError("it holds no numpy array")
    return array


def unpack(
    data: NDArray[Any] | Image.Image, *, channels: int, size: tuple[int, int], most: int, seed: int
) -> list[Part]:
    """Return the images of an array in memory, or of a Pillow image; arguments as of :func:`read`.

    Raises:
        ImageError: it holds no images for such a network.
    """
    if isinstance(data, Image.Image):
        return [Part("", _in_mode(data, channels))]
    array = data
    if array.dtype == np.uint8:
        stack = _pictures(array, channels)
    elif np.issubdtype(array.dtype, np.floating):
        stack = _preprocessed(array, channels, size)
    else:
        raise ImageError(
            f"its type is {array.dtype}; uint8 (pictures) or floating point (preprocessed) is read"
        )
    if stack.size == 0:
        raise ImageError(f"it is empty, of shape {array.shape}")
    # As files are drawn: in the stack's order, one sorted by class would be judged by its last.
    rows = random.Random(seed).sample(range(len(stack)), min(most, len(stack)))
    taken: list[Raw]
    if stack.dtype == np.uint8:
        images = (row[..., 0] if row.shape[-1] == 1 else row for row in (stack[i] for i in rows))
        taken = [_in_mode(Image.fromarray(np.ascontiguousarray(row)), channels) for row in images]
    else:
        taken = _finite(stack, rows)
    names = [f"image {row}" if len(stack) > 1 else "" for row in rows]
    return [Part(name, image) for name, image in zip(names, taken, strict=True)]


def _finite(stack: NDArray[Any], rows: Sequence[int]) -> list[Raw]:
    with np.errstate(over="ignore"):
        # A copy: the file may change while the network is calibrated.
        taken = [np.array(stack[i : i + 1], dtype=np.float32, order="C") for i in rows]
    if not all(np.isfinite(row).all() for row in taken):
        raise ImageError("it holds NaN or infinite values")
    return list(taken)


def _pictures(array: NDArray[Any], channels: int) -> NDArray[Any]:
    """View a uint8 array as (N, H, W, C)."""
    _check_channels(channels)
    last_is_channel = array.ndim > 2 and array.shape[-1] in _MODES
    if array.ndim == 2:
        return array[None, ..., None]
    if array.ndim == 3 and last_is_channel:
        return array[None]
    if array.ndim == 3 and array.shape[0] == channels:
        return np.moveaxis(array, 0, -1)[None]
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4 and last_is_channel:
        return array
    if array.ndim == 4 and array.shape[1] in _MODES:
        return np.moveaxis(array, 1, -1)
    raise ImageError(f"its shape is {array.shape}; uint8 pictures are (N, H, W, C) or (H, W, C)")


def _preprocessed(array: NDArray[Any], channels: int, size: tuple[int, int]) -> NDArray[Any]:
    """View a float array as (N, C, H, W)."""
    stack = array
    if array.ndim == 2 and channels == 1:
        stack = array[None, None]
    elif array.ndim == 3:
        stack = array[None]
    if stack.ndim != 4 or stack.shape[1:] != (channels, *size):
        raise ImageError(
            f"its shape is {array.shape}; a preprocessed float array is ({channels}, {size[0]}, "
            f"{size[1]}) or (N, {channels}, {size[0]}, {size[1]}) for this network"
        )
    return stack
