"""``waveedge bench``: latency and memory, paired. Needs no torch: it runs on the device."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from waveedge import console
from waveedge.errors import MissingDependencyError
from waveedge.runtime.benchmark import benchmark
from waveedge.runtime.bundle import newest_bundle
from waveedge.runtime.report import Comparison

__all__ = ["run"]


def run(
    model: Path | None,
    vs: Path | None,
    *,
    threads: int,
    runs: int,
    input_size: tuple[int, int] | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure ``model``, or the newest bundle here, against ``vs`` or the bundle's own baseline.

    Args:
        input_size: (height, width) in pixels, for networks that leave these free.

    Raises:
        InputError: there is nothing to measure, or nothing to compare it with.
    """
    if model is None:
        model = newest_bundle()
        console.say(f"Measuring the newest bundle here: {model}")
    with console.progress_bar() as progress:
        comparison = benchmark(
            model,
            vs,
            threads=threads,
            runs=runs,
            input_size=input_size,
            progress=partial(progress, "measuring"),
        )
    picture = plot or Path("bench.png")
    written = _save_plot(comparison, picture)
    if as_json:
        console.print_json(comparison.to_dict())
        return
    console.out.print(comparison.table(), highlight=False, markup=False)
    if written:
        console.out.print(f"wrote {picture}", highlight=False, markup=False)


def _save_plot(comparison: Comparison, picture: Path) -> bool:
    """Draw the picture where matplotlib is installed; a table is enough where it is not."""
    try:
        comparison.save_plot(picture)
    except MissingDependencyError as error:
        console.say(f"no picture: {error.what} {error.hint}")
        return False
    return True
