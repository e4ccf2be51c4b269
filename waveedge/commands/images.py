"""The images of a command: read with a progress bar, and what is odd about them said."""

from __future__ import annotations

from pathlib import Path

from waveedge import console
from waveedge.calibration import ImageSet, open_images
from waveedge.opening import wanted_of
from waveedge.spec import ModelSpec

__all__ = ["read_images"]


def read_images(
    folder: Path | None,
    *,
    spec: ModelSpec,
    size: tuple[int, int] | None,
    seed: int = 0,
    wanted: tuple[int, int] | None = None,
) -> ImageSet:
    """Read the images of ``--calib``; arguments and errors as of ``open_images``.

    Args:
        wanted: most images to learn from, and to hold out; by default as of ``wanted_of``.
    """
    limit, held_out = wanted or wanted_of(size or spec.input_size)
    with console.progress_bar() as progress:
        images = open_images(
            folder,
            spec=spec,
            size=size,
            limit=limit,
            held_out=held_out,
            seed=seed,
            progress=lambda done, total: progress("reading images", done, total),
        )
    for suspicion in images.suspicions:
        console.warn(f"suspicious images: {suspicion}")
    return images
