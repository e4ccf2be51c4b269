"""``waveedge bench``: latency and memory, of two in pairs or of one. Needs no torch, as devices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waveedge import console
from waveedge.errors import InputError
from waveedge.extras import install_line
from waveedge.outputs import PICTURE, check_output
from waveedge.runtime.benchmark import benchmark
from waveedge.runtime.bundle import newest_bundle

__all__ = ["run"]


def run(
    model: Path | None,
    vs: Path | None,
    *,
    alone: bool,
    threads: int,
    runs: int,
    input_size: tuple[int, int] | None,
    batches: Sequence[int],
    throughput: bool,
    streams: int | None,
    provider: str,
    images: Path | None,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure ``model``, or the newest bundle here, against ``vs`` or the bundle's own baseline.

    Args:
        alone: against nothing; as a file that is no bundle is without ``vs``.
        input_size: (height, width) in pixels, for networks that leave these free.
        batches, throughput, streams, provider: as for :func:`waveedge.runtime.benchmark.benchmark`.
        images: a .npy file of preprocessed images, float32 (N, C, H, W), run in turn, one at a
            time; a random one where None.

    Raises:
        InputError: there is nothing to measure.
        OutputError: the picture must not replace what is there, or cannot be written.
    """
    if model is None:
        model = newest_bundle(warn=console.warn)
        console.say(f"Measuring the newest bundle here: {model}")
    picture = plot or Path("bench.png")
    drawn = find_spec("matplotlib") is not None  # a table is enough where it is not installed
    if drawn:
        check_output(picture, PICTURE, inputs=(model, vs, images), overwrite=overwrite)
    given = None if images is None else _read(images)
    with console.progress_bar() as progress:
        comparison = benchmark(
            model,
            vs,
            alone=alone,
            threads=threads,
            runs=runs,
            input_size=input_size,
            batches=batches,
            throughput=throughput,
            streams=streams,
            provider=provider,
            images=given,
            progress=partial(progress, "measuring"),
        )
    if drawn:
        comparison.save_plot(picture, overwrite=overwrite)
    else:
        console.say(f"no picture: drawing needs matplotlib: {install_line('plot')}")
    if as_json:
        console.print_json(comparison.to_dict())
        return
    console.out.print(comparison.table(), highlight=False, markup=False)
    if drawn:
        console.out.print(f"wrote {picture}", highlight=False, markup=False)


def _read(file: Path) -> list[NDArray[np.float32]]:
    try:
        images = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} cannot be read as .npy: {error}") from error
    if isinstance(images, np.lib.npyio.NpzFile):
        images.close()
    if not isinstance(images, np.ndarray) or images.dtype != np.float32 or images.ndim != 4:
        raise InputError(
            f"{file} holds no images: it must be one float32 array (N, C, H, W)",
            hint="Preprocess them as the manifest's preprocessing says, and numpy.save them.",
        )
    return [images[number : number + 1] for number in range(len(images))]
