"""The result of a paired benchmark: as objects, as JSON, as a text table, as a plot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from waveedge.runtime.drift import Drift
from waveedge.runtime.figures import Ratio, Variant
from waveedge.runtime.machine import Machine
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
        widths = [max(len(cells[column]) for cells in rows) for column in range(len(heads))]
        lines = [
            "  ".join(
                cell.rjust(width) if column in (1, 2) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in rows
        ]
        lines.insert(1, "-" * len(max(lines, key=len)))
        return "\n".join([*lines, "", *self.conditions()])

    __str__ = table

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
