"""The result of a paired benchmark: as objects, as JSON, as a text table, as a plot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from waveedge.runtime.drift import Drift
from waveedge.runtime.figures import BatchRow, Ratio, Throughput, Variant
from waveedge.runtime.machine import Machine
from waveedge.runtime.report_further import aligned, batch_rows, further_conditions, stream_rows
from waveedge.runtime.report_plot import draw
from waveedge.runtime.report_rows import (
    Row,
    device_rows,
    memory_rows,
    ms,
    power_rows,
    row,
    size,
    time_rows,
)
from waveedge.runtime.schema import shown

__all__ = ["Comparison"]

_NAME = 40
"""Characters of a network's name in a table and a plot."""


@dataclass(frozen=True)
class Comparison:
    """A paired measurement of two networks on one machine. All ratios are B divided by A.

    Attributes:
        a, b: the two networks.
        cpu_ratio, wall_ratio: ratios of median times.
        memory_ratio: ratio of peak activation memories, or None where it was not measured.
        size_ratio: ratio of file sizes.
        batches: both at further batches, where that was asked for.
        throughput: both with several runs under way at once, where that was asked for.
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
    batches: tuple[BatchRow, ...]
    throughput: Throughput | None
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
            *time_rows("CPU time", a.cpu, b.cpu, self.cpu_ratio),
            *time_rows("wall time", a.wall, b.wall, self.wall_ratio),
            *device_rows(a, b),
            *memory_rows(a, b, self.memory_ratio),
            row("file size", size, a.file_bytes, b.file_bytes, self.size_ratio),
            row("load time", ms, a.load_ms, b.load_ms),
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
        return [*rows, *power_rows(a.power, b.power)]

    def table(self) -> str:
        """Return the comparison as plain text."""
        heads = ("", *self.titles(), "B / A (95 % interval)")
        rows = [heads, *self.rows()]
        tables = [table for table in (rows, self.batch_rows(), self.stream_rows()) if table]
        blocks = [*(aligned(table) for table in tables), self.conditions()]
        return "\n\n".join("\n".join(lines) for lines in blocks)

    __str__ = table

    def batch_rows(self) -> list[tuple[str, ...]]:
        """Return the table of batches with its heads; nothing without one."""
        return batch_rows(self.batches)

    def stream_rows(self) -> list[tuple[str, ...]]:
        """Return the table of throughput with its heads; nothing without it."""
        return stream_rows(self.throughput)

    def titles(self) -> tuple[str, str]:
        """Return the heads of both columns."""
        return f"A: {shown(self.a.name, _NAME)}", f"B: {shown(self.b.name, _NAME)}"

    def conditions(self) -> list[str]:
        """Return the lines that say how and where this was measured."""
        shape = "x".join(str(extent) for extent in self.input_shape)
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return [
            f"{threads}, input {shape} ({self.input_source}), {self.runs} interleaved pairs "
            f"in random order after {self.warmup} to warm up, seed {self.seed}.",
            f"A on {self.a.backend}, B on {self.b.backend}; {self.machine.summary()}.",
            *further_conditions(self.batches, self.throughput),
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
        draw(self, Path(path), overwrite=overwrite)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
