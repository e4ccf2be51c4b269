"""From a picture to network inputs: the window, the resize, and the preprocessing of the spec."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from waveedge.calibration.decode import Raw
from waveedge.spec import ModelSpec

__all__ = ["at_full_resolution", "halves", "network_inputs"]


def at_full_resolution(spec: ModelSpec) -> bool:
    """Whether the network works on pixels as a camera gives them, so resizing would change them."""
    return spec.task in ("super-resolution", "restoration")


def network_inputs(
    raw: Raw, *, spec: ModelSpec, size: tuple[int, int], most: int
) -> list[NDArray[np.float32]]:
    """Return one or more inputs (1, C, H, W) float32 of one image.

    A preprocessed array is its own input. Of a picture, super-resolution and restoration networks
    get up to ``most`` disjoint windows at full resolution (one: its centre). Other networks, and
    pictures smaller than the input, get the picture resized (bicubic, antialiased, aspect kept)
    until it covers the input, and its centre.
    """
    if not isinstance(raw, Image.Image):
        return [raw]
    height, width = size
    if at_full_resolution(spec) and raw.width >= width and raw.height >= height:
        pictures = [raw.crop(box) for box in _windows(raw.size, (width, height), most)]
    else:
        pictures = [ImageOps.fit(raw, (width, height), Image.Resampling.BICUBIC)]
    if spec.preprocessing.colour == "ycbcr":
        pictures = [picture.convert("YCbCr") for picture in pictures]
    return [preprocess(np.asarray(picture), spec) for picture in pictures]


def halves(raw: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Cut a picture in two across its longer side."""
    width, height = raw.size
    if width >= height:
        cut = width // 2
        return raw.crop((0, 0, cut, height)), raw.crop((cut, 0, width, height))
    cut = height // 2
    return raw.crop((0, 0, width, cut)), raw.crop((0, cut, width, height))


def preprocess(pixels: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    """Turn uint8 pixels (H, W) or (H, W, C) into (1, C, H, W) float32 as the spec says."""
    rules = spec.preprocessing
    low, high = rules.range
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1).astype(np.float64)
    mean = np.reshape(rules.mean, (-1, 1, 1))
    std = np.reshape(rules.std, (-1, 1, 1))
    scaled = (low + planes / 255.0 * (high - low) - mean) / std
    return np.ascontiguousarray(scaled[None], dtype=np.float32)


def _windows(
    picture: tuple[int, int], window: tuple[int, int], most: int
) -> list[tuple[int, int, int, int]]:
    """Return boxes (left, top, right, bottom) of disjoint windows, spread over the picture."""
    (width, height), (w, h) = picture, window
    columns, rows = width // w, height // h
    count = min(most, columns * rows)
    if count == 1:
        columns = rows = 1
    left, top = (width - columns * w) // 2, (height - rows * h) // 2
    chosen = np.linspace(0, columns * rows - 1, count).round().astype(int).tolist()
    corners = [(left + cell % columns * w, top + cell // columns * h) for cell in chosen]
    return [(x, y, x + w, y + h) for x, y in corners]
