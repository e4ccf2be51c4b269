"""The images that travel in a bundle, by which a device checks and times what it built."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from waveedge.errors import ArtifactError
from waveedge.runtime.backend import Array, TensorInfo
from waveedge.runtime.bundle import Bundle

__all__ = ["travelling_batches", "travelling_outputs"]


def travelling_batches(bundle: Bundle, taken: TensorInfo) -> list[Array]:
    """Return a bundle's images in batches of the size that an input takes; [] without any.

    Raises:
        ArtifactError: the file cannot be read, or holds no images.
    """
    name = bundle.manifest["images"]
    if name is None:
        return []
    file = bundle.path / name
    try:
        images = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}") from error
    if images.dtype != np.float32 or images.ndim != 4:
        raise ArtifactError(f"{file} holds no images: float32 (N, C, H, W) was expected")
    batch = taken.shape[0]
    size = batch if isinstance(batch, int) else 1
    starts = range(0, len(images) - size + 1, size)
    return [np.ascontiguousarray(images[start : start + size]) for start in starts]


def travelling_outputs(bundle: Bundle, form: Mapping[str, Any]) -> list[Array] | None:
    """Return what a form computes of these images, output by output; None where none is told.

    Raises:
        ArtifactError: the file cannot be read.
    """
    if form["outputs"] is None:
        return None
    file = bundle.path / form["outputs"]
    try:
        # Opened here: numpy leaves open what turns out to be no archive.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
            return [found[name] for name in found.files]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{file} cannot be read: {error}") from error
