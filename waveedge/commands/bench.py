"""``waveedge bench``: latency and memory, paired. Needs no torch: it runs on the device."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

from waveedge import console
from waveedge.outputs import PICTURE, check_output
from waveedge.runtime.benchmark import benchmark
from waveedge.runtime.bundle import newest_bundle

__all__ = ["run"]


def run(
    model: Path | None,
    vs: Path | None,
    *,
    threads: int,
    runs: int,
    input_size: tuple[int, int] | None,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure ``model``, or the newest bundle here, against ``vs`` or the bundle's own baseline.

    Args:
        input_size: (height, width) in pixels, for networks that leave these free.

    Raises:
        InputError: there is nothing to measure, or nothing to compare it with.
        OutputError: the picture must not replace what is there, or cannot be written.
    """
    if model is None:
        model = newest_bundle(warn=console.warn)
        console.say(f"Measuring the newest bundle here: {model}")
    picture = plot or Path("bench.png")
    drawn = find_spec("matplotlib") is not None  # a table is enough where it is not installed
    if drawn:
        check_output(picture, PICTURE, inputs=(model, vs), overwrite=overwrite)
    with console.progress_bar() as progress:
        comparison = benchmark(
            model,
            vs,
            threads=threads,
            runs=runs,
            input_size=input_size,
            progress=partial(progress, "measuring"),
        )
    if drawn:
        comparison.save_plot(picture, overwrite=overwrite)
    else:
        console.say('no picture: drawing needs matplotlib: pip install "waveedge[plot]"')
    if as_json:
        console.print_json(comparison.to_dict())
        return
    console.out.print(comparison.table(), highlight=False, markup=False)
    if drawn:
        console.out.print(f"wrote {picture}", highlight=False, markup=False)
