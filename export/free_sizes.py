"""Bundles whose height and width stay free: which sizes one file serves, and how that is tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from waveedge.errors import ExportError, UsageError, WaveedgeError
from waveedge.export.target import Target
from waveedge.runtime.sizes import Size, SizeRange
from waveedge.sizes import Sizes

__all__ = ["FREE_NOTE", "ONE_SIZE", "check_ends", "explained", "resized", "served"]

Array = NDArray[np.float32]

ONE_SIZE = "Export at one size with --input-size HxW."

FREE_NOTE = (
    "height and width are free: what needs maps of known size is left out (products of linear "
    "layers as Gemm, merged groups, folded stems, activations in pieces), so that a bundle of one "
    "size can be faster"
)


def check_ends(target: Target, dynamic: bool, least: Size | None, most: Size | None) -> None:
    """Refuses ends of an optimisation profile where there is none, and a profile without them.

    Raises:
        UsageError: naming the option.
    """
    if not (dynamic and target.builds_engines):
        if least or most:
            raise UsageError(
                "--min-size and --max-size are the ends of a TensorRT optimisation profile",
                hint="Give them with --target trt or trt-rtx and --input-size dynamic.",
            )
    elif most is None:
        raise UsageError(
            f"--input-size dynamic with --target {target.name} needs --max-size HxW: an engine is "
            "built for a range of sizes",
            hint="--min-size HxW is, by default, the smallest that the network takes.",
        )


def served(sizes: Sizes, least: Size | None, most: Size | None) -> SizeRange:
    """The sizes that one file serves.

    Args:
        sizes: those that the network takes.
        least, most: ends of the range, if it is to have any.

    Raises:
        ExportError: the network is bound to one size.
        InputError: an end is no size that it takes.
        UsageError: the calibrated size lies outside the ends.
    """
    if sizes.bound:
        raise ExportError(
            f"this network cannot leave the size of its images free: it takes {sizes}",
            hint=ONE_SIZE,
        )
    for end in (least, most):
        if end is not None:
            sizes.check(end, "this network")
    found = SizeRange(sizes.calibrated, sizes.multiple, least or sizes.least, most)
    if not found.admits(sizes.calibrated):
        raise UsageError(
            "the size that the network was made for, {}x{}, lies outside --min-size and "
            "--max-size".format(*sizes.calibrated),
            hint="TensorRT tunes an engine for that size: choose a range around it.",
        )
    return found


@contextmanager
def explained(sizes: SizeRange | None) -> Iterator[None]:
    """Says of a graph that no runtime takes that its free sizes are why: with one size, all do.

    Raises:
        ExportError: the block raised what is no error of waveedge, and sizes are free.
    """
    try:
        yield
    except WaveedgeError:
        raise
    except Exception as error:  # whatever a runtime raises
        if sizes is None:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ExportError(
            f"the graph of this network does not run with free sizes: {reason[:300]}",
            hint=ONE_SIZE,
        ) from error


def resized(batches: Sequence[Array], size: Size) -> list[Array]:
    """The same images (N, C, H, W) at another size."""
    return [
        F.interpolate(torch.from_numpy(batch), size, mode="bilinear", antialias=True).numpy()
        for batch in batches
    ]
