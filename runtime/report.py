"""The result of a paired benchmark: as objects, as JSON, as a text table, as a plot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from waveedge.filetypes import PICTURE_TEXT
from waveedge.outputs import PICTURE, new_file
from waveedge.runtime.drift import Drift
from waveedge.runtime.machine import Machine
from waveedge.runtime.pictures import figure
from waveedge.runtime.power import Power
from waveedge.runtime.schema import shown

__all__ = ["Bits", "Comparison", "Ratio", "Timing", "Variant"]

Row = tuple[str, str, str, str]

_NAME = 40
"""Characters of a network's name in a table and a plot."""


@dataclass(frozen=True)
class Timing:
    """Times of the measured runs, in milliseconds."""

    median: float
    p90: float
    p99: float
    samples: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """B divided by A, of medians, with its 95 % interval: above 1, A is the faster one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bits:
    """Weight and activation bits of a bundle's layers, such as ``"w8a4"``.

    ``executed`` is what the runtime computes in: fewer than 8 bits run in 8-bit containers.
    """

    requested: str
    executed: str


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    Attributes:
        name: the network's name.
        path: the file that ran.
        backend: what ran it.
        cpu: CPU time of the process, over all its threads.
        wall: elapsed time.
        device: an engine's time on the GPU, by CUDA events around it, transfers not counted; None
            for what runs elsewhere.
        load_ms: time to load the file, in milliseconds, median of several.
        file_bytes: size of the file and its external weights.
        peak_bytes: peak activation memory (see ``waveedge.runtime.memory``), or None.
        bits: of a bundle, else None.
        power: where the device measures it, else None.
    """

    name: str
    path: str
    backend: str
    cpu: Timing
    wall: Timing
    device: Timing | None
    load_ms: float
    file_bytes: int
    peak_bytes: int | None
    bits: Bits | None
    power: Power | None


@dataclass(frozen=True)
class Comparison:
    """A paired measurement of two networks on one machine. All ratios are B divided by A.

    Attributes:
        a, b: the two networks.
        cpu_ratio, wall_ratio: ratios of median times.
        memory_ratio: ratio of peak activation memories, or None where it was not measured.
        size_ratio: ratio of file sizes.
        order: order of each pair of runs, ``"AB"`` or ``"BA"``.
        threads, warmup, seed: settings of the measurement.
        input_shape: shape that both ran on.
        input_source: ``"random"`` or ``"images"``.
        machine: where it was measured.
        drift: how the machine changed meanwhile.
        notes: what a reader must know to trust the figures.
    """

    a: Variant
    b: Variant
    cpu_ratio: Ratio
    wall_ratio: Ratio
    memory_ratio: float | None
    size_ratio: float
    order: tuple[str, ...]
    threads: int
    warmup: int
    seed: int
    input_shape: tuple[int, ...]
    input_source: str
    machine: Machine
    drift: Drift
    notes: tuple[str, ...]

    @property
    def runs(self) -> int:
        """How many pairs were measured."""
        return len(self.order)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values; the keys are the attributes' names."""
        values: dict[str, Any] = _plain(asdict(self))
        return {**values, "runs": self.runs, "machine": self.machine.to_dict()}

    def rows(self) -> list[Row]:
        """Return the table's rows as (figure, A, B, B / A), for any way of printing."""
        a, b = self.a, self.b
        rows = [
            *_time_rows("CPU time", a.cpu, b.cpu, self.cpu_ratio),
            *_time_rows("wall time", a.wall, b.wall, self.wall_ratio),
            *_device_rows(a.device, b.device),
            _row("peak activation memory", _size, a.peak_bytes, b.peak_bytes, self.memory_ratio),
            _row("file size", _size, a.file_bytes, b.file_bytes, self.size_ratio),
            _row("load time", _ms, a.load_ms, b.load_ms),
        ]
        if a.bits or b.bits:
            for kind in ("requested", "executed"):
                rows.append(
                    (
                        f"bits, {kind}",
                        str(getattr(a.bits, kind, "-")),
                        str(getattr(b.bits, kind, "-")),
                        "",
                    )
                )
        return [*rows, *_power_rows(a.power, b.power)]

    def table(self) -> str:
        """Return the comparison as plain text."""
        heads = ("", *self._titles(), "B / A (95 % interval)")
        rows = [heads, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        lines = [
            "  ".join(
                cell.rjust(width) if column in (1, 2) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * len(max(lines, key=len)))
        return "\n".join([*lines, "", *self.conditions()])

    __str__ = table

    def _titles(self) -> tuple[str, str]:
        return f"A: {shown(self.a.name, _NAME)}", f"B: {shown(self.b.name, _NAME)}"

    def conditions(self) -> list[str]:
        """Return the lines that say how and where this was measured."""
        shape = "x".join(str(size) for size in self.input_shape)
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return [
            f"{threads}, input {shape} ({self.input_source}), {self.runs} interleaved pairs "
            f"in random order after {self.warmup} to warm up, seed {self.seed}.",
            f"A on {self.a.backend}, B on {self.b.backend}; {self.machine.summary()}.",
            *self.notes,
        ]

    def save_plot(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a PNG: the times of all runs, the peak memories and the file sizes.

        Args:
            path: the file; one that waveedge drew is replaced.
            overwrite: replace any other file, too.

        Raises:
            MissingDependencyError: matplotlib is not installed.
            OutputError: the file must not be replaced, or cannot be written.
        """
        drawn = figure((9, 3.6))
        times, memory, size = drawn.subplots(1, 3, width_ratios=(3, 1, 1))
        colors = ("tab:blue", "tab:gray")
        sides = (self.a, self.b)
        # The CPU's clock does not see work on a GPU.
        clock = "cpu" if all(side.backend.startswith("onnxruntime") for side in sides) else "wall"
        ratio = self.cpu_ratio if clock == "cpu" else self.wall_ratio
        timings: list[Timing] = [getattr(side, clock) for side in sides]
        for place, (timing, color) in enumerate(zip(timings, colors, strict=True)):
            # Runs from top to bottom in the order they were made: drift shows as a slant.
            heights = [place + 0.5 * (i / len(timing.samples) - 0.5) for i in range(self.runs)]
            times.plot(timing.samples, heights, "o", color=color, markersize=4, alpha=0.6)
            times.vlines(timing.median, place - 0.35, place + 0.35, color="black")
        # Names are anyone's text: a $ in them starts no formula.
        times.set_yticks((0, 1), self._titles(), parse_math=False)
        times.invert_yaxis()
        times.set_xlim(left=0)
        times.set_xlabel(f"{'CPU' if clock == 'cpu' else 'wall'} time of a run [ms]")
        times.set_title(f"B / A = {_text(ratio)}")
        for axes, title, values in (
            (memory, "peak memory", [side.peak_bytes for side in sides]),
            (size, "file size", [side.file_bytes for side in sides]),
        ):
            bars = axes.bar(("A", "B"), [value or 0 for value in values], color=colors)
            axes.bar_label(bars, ["-" if value is None else _size(value) for value in values])
            axes.set_title(title)
            axes.set_yticks([])
            axes.margins(y=0.15)
        title = f"{self.threads} thread(s), {self.machine.summary()}"
        drawn.suptitle(title, fontsize="small", parse_math=False)
        with (
            new_file(Path(path), PICTURE, overwrite=overwrite) as temporary,
            warnings.catch_warnings(),
        ):
            # A letter that the font lacks is drawn as a box; there is no more to say.
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            drawn.savefig(temporary, format="png", dpi=150, metadata=PICTURE_TEXT)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _time_rows(title: str, a: Timing, b: Timing, ratio: Ratio) -> list[Row]:
    return [
        (f"{title}, median", _ms(a.median), _ms(b.median), _text(ratio)),
        (f"{title}, p90", _ms(a.p90), _ms(b.p90), ""),
        (f"{title}, p99", _ms(a.p99), _ms(b.p99), ""),
    ]


def _device_rows(a: Timing | None, b: Timing | None) -> list[Row]:
    if a is None and b is None:
        return []
    medians = [side.median if side is not None else None for side in (a, b)]
    ratio = b.median / a.median if a and b and a.median else None
    return [_row("time on the GPU, median", _ms, medians[0], medians[1], ratio)]


def _power_rows(a: Power | None, b: Power | None) -> list[Row]:
    if a is None and b is None:
        return []

    def row(title: str, form: Callable[[float], str], of: Callable[[Power], float]) -> Row:
        values = [None if power is None else of(power) for power in (a, b)]
        return _row(title, form, values[0], values[1])

    rows = [
        row("energy of a run, above rest", _mj, lambda power: power.joules_per_run),
        row("energy of a run, in all", _mj, lambda power: power.total_joules_per_run),
        row("power under load", _watts, lambda power: power.watts),
    ]
    # A run that is lost in what the machine takes at rest has no ratio to another.
    if a and b and min(a.joules_per_run, b.joules_per_run) > 0:
        rows[0] = (*rows[0][:3], f"{b.joules_per_run / a.joules_per_run:.2f}x")
    return rows


def _row(
    title: str,
    form: Callable[[float], str],
    a: float | None,
    b: float | None,
    ratio: float | None = None,
) -> Row:
    cells = ["-" if value is None else form(value) for value in (a, b)]
    return title, cells[0], cells[1], "" if ratio is None else f"{ratio:.2f}x"


def _ms(value: float) -> str:
    return f"{value:.2f} ms"


def _size(value: float) -> str:
    return f"{value / 2**20:.2f} MiB" if value >= 2**20 else f"{value / 2**10:.1f} KiB"


def _watts(value: float) -> str:
    return f"{value:.2f} W"


def _mj(value: float) -> str:
    return f"{value * 1000:.1f} mJ"


def _text(ratio: Ratio) -> str:
    return f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
