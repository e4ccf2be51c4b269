"""A comparison as a picture."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from waveedge.filetypes import PICTURE_TEXT
from waveedge.outputs import PICTURE, new_file
from waveedge.runtime.figures import Timing
from waveedge.runtime.pictures import figure
from waveedge.runtime.report_rows import interval_text, ms, ratio_text, size

if TYPE_CHECKING:
    from waveedge.runtime.report import Comparison

__all__ = ["draw"]


def draw(comparison: Comparison, path: Path, *, overwrite: bool) -> None:
    """Write a PNG: the times of all runs, the peak memories and the file sizes."""
    drawn = figure((9, 3.6))
    times, memory, files = drawn.subplots(1, 3, width_ratios=(3, 1, 1))
    colors = ("tab:blue", "tab:gray")
    sides = [side for side in (comparison.a, comparison.b) if side is not None]
    # The CPU's clock does not see work on a GPU.
    clock = "cpu" if all(side.backend == "onnxruntime (CPU)" for side in sides) else "wall"
    ratio = comparison.cpu_ratio if clock == "cpu" else comparison.wall_ratio
    timings: list[Timing] = [getattr(side, clock) for side in sides]
    for place, (timing, color) in enumerate(zip(timings, colors, strict=False)):
        # Runs from top to bottom in the order they were made: drift shows as a slant.
        heights = [place + 0.5 * (i / len(timing.samples) - 0.5) for i in range(comparison.runs)]
        times.plot(timing.samples, heights, "o", color=color, markersize=4, alpha=0.6)
        times.vlines(timing.median, place - 0.35, place + 0.35, color="black")
    # Names are anyone's text: a $ in them starts no formula.
    times.set_yticks(range(len(sides)), comparison.titles(), parse_math=False)
    times.invert_yaxis()
    times.set_xlim(left=0)
    times.set_xlabel(f"{'CPU' if clock == 'cpu' else 'wall'} time of a run [ms]")
    alone = f"median {ms(timings[0].median)} ({interval_text(timings[0])})"
    times.set_title(f"B / A = {ratio_text(ratio)}" if ratio else alone)
    for axes, title, values in (
        (memory, "peak memory", [side.peak_bytes for side in sides]),
        (files, "file size", [side.file_bytes for side in sides]),
    ):
        bars = axes.bar(
            ("A", "B")[: len(sides)], [value or 0 for value in values], color=colors[: len(sides)]
        )
        axes.bar_label(bars, ["-" if value is None else size(value) for value in values])
        axes.set_title(title)
        axes.set_yticks([])
        axes.margins(y=0.15)
    title = f"{comparison.threads} thread(s), {comparison.machine.summary()}"
    drawn.suptitle(title, fontsize="small", parse_math=False)
    with (
        new_file(path, PICTURE, overwrite=overwrite) as temporary,
        warnings.catch_warnings(),
    ):
        # A letter that the font lacks is drawn as a box; there is no more to say.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        drawn.savefig(temporary, format="png", dpi=150, metadata=PICTURE_TEXT)
