"""Images that can hardly be what the network will see, told before anything is built on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waveedge.calibration.decode import Raw
from waveedge.calibration.folders import shown
from waveedge.spec import ModelSpec

__all__ = ["Look", "look_at", "suspicions"]

_LEVELS = 255
_CONSTANT = 2
"""Levels that the noise of a black picture may span."""
_NARROW = 20
"""Levels: 12 bits in a file of 16 span 16 of them."""
_FAR = 16
"""Spans of the range of pixels beyond it that no preprocessing gives."""
_ENLARGED = 8
_LARGEST_LABEL, _MOST_LABELS, _NO_LABEL = 63, 40, 255
_WINDOW = 512


@dataclass(frozen=True)
class Look:
    """What one image is like, as it came.

    Attributes:
        name: of its file or item.
        constant: whether it holds one value, give or take a little noise.
        labels: whether it looks like a map of labels.
        size: (width, height) of a picture; None for a preprocessed array.
    """

    name: Path | str
    constant: bool
    labels: bool = False
    size: tuple[int, int] | None = None


def look_at(name: Path | str, raw: Raw, spec: ModelSpec) -> Look:
    """Look at one image."""
    if not isinstance(raw, Image.Image):
        low, high = _ends_of_range(spec)
        spread = float(raw.max()) - float(raw.min())
        return Look(name, spread <= _CONSTANT / _LEVELS * (high - low))
    extrema = raw.getextrema()
    bands = extrema[:3] if isinstance(extrema[0], tuple) else [extrema]
    constant = all(high - low <= _CONSTANT for low, high in bands)
    return Look(name, constant, not constant and _is_label_map(raw), raw.size)


def suspicions(
    looks: Sequence[Look],
    inputs: Sequence[NDArray[np.float32]],
    spec: ModelSpec,
    *,
    read: int,
    repeated: int,
) -> tuple[str, ...]:
    """Return what is odd about images, one sentence each.

    Args:
        looks: at every image.
        inputs: what the network gets of them, (1, C, H, W) each.
        spec: says how pixels enter the network.
        read: number of files or items.
        repeated: images that had been met before.
    """
    found = [
        _constant(looks),
        _labels(looks),
        _enlarged(looks, inputs[0].shape[-1], inputs[0].shape[-2]),
        _channels(inputs),
        _values(looks, inputs, spec),
    ]
    if repeated and 2 * repeated >= read:
        found.append(f"{repeated} of the {read} that were read repeat a picture met before.")
    return tuple(sentence for sentence in found if sentence)


def _constant(looks: Sequence[Look]) -> str | None:
    names = [shown(look.name) for look in looks if look.constant]
    if not names:
        return None
    return f"{len(names)} of {len(looks)} images are black or of one value: {_list(names)}."


def _labels(looks: Sequence[Look]) -> str | None:
    names = [shown(look.name) for look in looks if look.labels]
    if 2 * len(names) <= len(looks):
        return None
    return (
        f"{len(names)} of {len(looks)} images look like maps of labels, of few and small values: "
        f"{_list(names)}. Give the photos that they belong to."
    )


def _enlarged(looks: Sequence[Look], width: int, height: int) -> str | None:
    small = [
        f"{shown(look.name)} ({look.size[0]}x{look.size[1]})"
        for look in looks
        if look.size and max(width / look.size[0], height / look.size[1]) > _ENLARGED
    ]
    if not small:
        return None
    return (
        f"{len(small)} of {len(looks)} pictures are enlarged more than {_ENLARGED} times, to "
        f"{width}x{height} (width x height): {_list(small)}."
    )


def _channels(inputs: Sequence[NDArray[np.float32]]) -> str | None:
    low = np.min([image.min(axis=(0, 2, 3)) for image in inputs], axis=0)
    high = np.max([image.max(axis=(0, 2, 3)) for image in inputs], axis=0)
    constant = np.flatnonzero(low == high)
    if len(constant) in (0, len(low)):
        return None
    channel = int(constant[0])
    return (
        f"Channel {channel + 1} of {len(low)} is {low[channel]:.3g} in every image: pictures "
        "without it do not show what the network will see. Give arrays with all channels."
    )


def _values(
    looks: Sequence[Look], inputs: Sequence[NDArray[np.float32]], spec: ModelSpec
) -> str | None:
    low, high = _ends_of_range(spec)
    least = min(float(image.min()) for image in inputs)
    most = max(float(image.max()) for image in inputs)
    span = high - low
    text = f"{least:.3g} to {most:.3g}, but preprocessed pixels run from {low:.3g} to {high:.3g}"
    if least < low - _FAR * span or most > high + _FAR * span:
        return f"Values run from {text}: are the float arrays really preprocessed?"
    narrow = most - least < _NARROW / _LEVELS * span
    if narrow and not all(look.constant for look in looks):
        return f"Values run only from {text}: have they fewer bits than their files (12 in 16)?"
    return None


def _ends_of_range(spec: ModelSpec) -> tuple[float, float]:
    """The least and the largest value of a preprocessed pixel."""
    rules = spec.preprocessing
    ends = [(end - np.array(rules.mean)) / np.array(rules.std) for end in rules.range]
    return float(np.min(ends)), float(np.max(ends))


def _is_label_map(picture: Image.Image) -> bool:
    """Whether a grey picture holds few and small values that leap from region to region.

    A picture that is merely dark has small values too, but they go up and down by single steps.
    """
    width, height = (min(side, _WINDOW) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    pixels = np.asarray(picture.crop((left, top, left + width, top + height)))
    pixels = pixels.reshape(height, width, -1)
    if (pixels[..., :3] != pixels[..., :1]).any():
        return False
    grey = pixels[..., 0].astype(np.int16)
    labels = np.unique(grey[grey != _NO_LABEL])
    if not 0 < len(labels) <= _MOST_LABELS or labels[-1] > _LARGEST_LABEL:
        return False
    steps = np.abs(np.diff(grey, axis=1))
    changes = steps[steps > 0]
    if not len(changes):
        return False
    leaps = float((changes > 1).mean())
    regions = len(changes) < 0.1 * steps.size
    return leaps > (0.3 if regions else 0.75)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(sorted(names)[:5]) + more
