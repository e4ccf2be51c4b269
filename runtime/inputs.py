"""What a network takes: arrays are checked in words about images, and examples made to measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from waveedge.errors import InputError
from waveedge.runtime.backend import Array, TensorInfo
from waveedge.runtime.schema import shown

__all__ = ["check_inputs", "example_inputs"]

_MOST_VALUES = 2**28

Shape = tuple[int, ...]


def check_inputs(arrays: Sequence[object], inputs: Sequence[TensorInfo]) -> None:
    """Refuse what a network cannot take.

    Raises:
        InputError: the number of arrays, or the type, dtype or shape of one, does not fit.
    """
    if len(arrays) != len(inputs):
        names = ", ".join(shown(info.name) for info in inputs)
        raise InputError(
            f"the network takes {len(inputs)} arrays ({shown(names)}), not {len(arrays)}",
            hint="Give one array for each input, in this order.",
        )
    for array, info in zip(arrays, inputs, strict=True):
        what = "the input" if len(inputs) == 1 else f"the input {shown(info.name)}"
        _check(array, info, what)


def example_inputs(
    inputs: Sequence[TensorInfo],
    *,
    shape: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> tuple[Array, ...]:
    """Make seeded inputs to measure time and memory with, one for each input of a network.

    Floats are normal-distributed, bytes uniform; other whole numbers and booleans are 0, which is
    an index into whatever they choose from. A free size takes that of the first input.

    Args:
        inputs: what the network takes.
        shape: the first input's full shape.
        size: (height, width) in pixels, for a first input that leaves them free.
        seed: of the random values.

    Raises:
        InputError: a size is left open, or does not fit, or there are more than 2^28 values.
    """
    first = tuple(shape) if shape is not None else _sized(inputs[0].shape, size)
    shapes = [first, *(_like_first(info, first, inputs[0]) for info in inputs[1:])]
    for found in shapes:
        if math.prod(found) > _MOST_VALUES:
            raise InputError(
                f"an input of shape {_shape_text(found)} is too large to be measured",
                hint=f"Choose a smaller --input-size: at most {_MOST_VALUES:,} values are taken.",
            )
    rng = np.random.default_rng(seed)
    return tuple(
        _values(rng, found, info.dtype) for info, found in zip(inputs, shapes, strict=True)
    )


def _sized(shape: Sequence[int | str], size: tuple[int, int] | None) -> Shape:
    """Return the first input's shape: one image, of the size where height and width are free."""
    sized = list(shape)
    if sized and isinstance(sized[0], str):
        sized[0] = 1
    if size is not None:
        for axis, pixels in zip(_image_axes(shape), size, strict=True):
            if isinstance(shape[axis], int) and shape[axis] != pixels:
                raise InputError(
                    f"the network takes {_shape_text(shape)}, not images of {size[0]}x{size[1]}",
                    hint="Leave --input-size out, or export the network again with it.",
                )
            sized[axis] = pixels
    if free := [f"'{shown(found)}'" for found in sized if isinstance(found, str)]:
        raise InputError(
            f"the network leaves its input size open ({shown(', '.join(free))})",
            hint="Give images of the size to run at, or: waveedge bench --input-size HxW"
            if size is None
            else "Only batch, height and width can be chosen: save the model with the rest fixed.",
        )
    return tuple(int(found) for found in sized)


def _image_axes(shape: Sequence[int | str]) -> tuple[int, int]:
    """Return the axes of height and width."""
    if len(shape) != 4:
        raise InputError(
            f"the network takes {_shape_text(shape)}, which is no image with height and width",
            hint="Leave --input-size out.",
        )
    channels_last = isinstance(shape[1], str) and isinstance(shape[3], int)
    return (1, 2) if channels_last else (2, 3)


def _like_first(info: TensorInfo, first: Shape, named: TensorInfo) -> Shape:
    """Return the shape of a further input: sizes of one name agree, and those of one axis."""
    sizes = dict(zip(named.shape, first, strict=True))
    shape = []
    for axis, size in enumerate(info.shape):
        if isinstance(size, str):
            same = axis < len(first) and (axis == 0 or len(info.shape) == len(first))
            found = sizes.get(size, first[axis] if same else None)
            if found is None:
                raise InputError(
                    f"the network leaves '{shown(size)}' of its input {shown(info.name)} open",
                    hint="Save the model with this size fixed.",
                )
            size = found
        shape.append(size)
    return tuple(shape)


def _values(rng: np.random.Generator, shape: Shape, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    if dtype in (np.uint8, np.int8):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return np.zeros(shape, dtype)


def _check(image: object, expected: TensorInfo, what: str) -> None:
    wanted = _shape_text(expected.shape)
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"{what} is a {type(image).__name__}; a numpy array of shape {wanted} is needed",
            hint=f"Convert it: numpy.asarray(x, dtype=numpy.{expected.dtype})",
        )
    if image.dtype != expected.dtype:
        raise InputError(
            f"{what} has dtype {image.dtype}; the network takes {expected.dtype}",
            hint="Preprocess 8-bit images as the manifest's 'preprocessing' says."
            if image.dtype == np.uint8
            else f"Convert it: x.astype(numpy.{expected.dtype})",
        )
    if image.ndim != len(expected.shape):
        raise InputError(
            f"{what} has shape {image.shape}, of rank {image.ndim}; the network takes {wanted}",
            hint="Add the batch axis: x[numpy.newaxis]"
            if image.ndim + 1 == len(expected.shape)
            else "",
        )
    for axis, (size, need) in enumerate(zip(image.shape, expected.shape, strict=True)):
        if size == need or (isinstance(need, str) and size > 0):
            continue
        raise InputError(
            f"{what} has shape {image.shape}; the network takes {wanted}, "
            f"so its {_axis_name(axis, image.ndim)} must be {shown(str(need))}, not {size}",
            hint=_mend(image.shape, expected.shape, axis),
        )


def _axis_name(axis: int, rank: int) -> str:
    names = ("batch", "number of channels", "height", "width")
    return names[axis] if rank == len(names) else f"axis {axis}"


def _mend(shape: tuple[int, ...], expected: tuple[int | str, ...], axis: int) -> str:
    if len(shape) != 4:
        return ""
    if axis == 0:
        return "Export with --batch dynamic to run any batch."
    if shape[3] == expected[1]:
        return "Channels come first: x.transpose(0, 3, 1, 2)"
    if axis == 1:
        return "Convert the image to the channels that the network was trained on."
    return "Resize the image, or export again with --input-size HxW."


def _shape_text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(shown(str(size)) for size in shape)})"
