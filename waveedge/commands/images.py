"""The images of a command: read with a progress bar, and what is odd about them said."""

from __future__ import annotations

from pathlib import Path

from waveedge import console
from waveedge.calibration import ImageSet, open_images
from waveedge.opening import WANTED
from waveedge.spec import ModelSpec

__all__ = ["read_images"]


def read_images(
    folder: Path | None,
    *,
    spec: ModelSpec,
    size: tuple[int, int] | None,
    seed: int = 0,
    wanted: tuple[int, int] = WANTED,
) -> ImageSet:
    """Read the images of ``--calib``; arguments and errors as of ``open_images``.

    Args:
        wanted: most images to calibrate with, and to hold out.
    """
    with console.progress_bar() as progress:
        images = open_images(
            folder,
            spec=spec,
            size=size,
            limit=wanted[0],
            held_out=wanted[1],
            seed=seed,
            progress=lambda done, total: progress("reading images", done, total),
        )
    for suspicion in images.suspicions:
        console.warn(f"suspicious images: {suspicion}")
    return images
