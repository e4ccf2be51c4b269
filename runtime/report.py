"""The result of a benchmark, of two networks or one: as objects, as JSON, as a table, as a plot."""

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

    Or of one network alone: then ``b`` is None, as are all ratios, and each run counts as a pair.

    Attributes:
        a, b: the two networks.
        cpu_ratio, wall_ratio: ratios of median times.
        device_ratio: the same of execution on the GPU, where both are engines; or None.
        memory_ratio: ratio of peak activation memories, or None where it was not measured.
        size_ratio: ratio of file sizes.
        energy_ratio: ratio of energies of a run above rest: the median of rounds that took turns,
            and the least and the most of them in place of an interval; or None.
        batches: the networks at further batches, where that was asked for.
        throughput: the networks with several runs under way at once, where that was asked for.
        order: order of each pair of runs, ``"AB"`` or ``"BA"``; ``"A"`` alone.
        threads, warmup, seed: settings of the measurement.
        input_shape: shape that they ran on.
        input_source: ``"random"`` or ``"images"``.
        machine: where it was measured.
        drift: how the machine changed meanwhile.
        notes: what a reader must know to trust the figures.
    """

    a: Variant
    b: Variant | None
    cpu_ratio: Ratio | None
    wall_ratio: Ratio | None
    device_ratio: Ratio | None
    memory_ratio: float | None
    size_ratio: float | None
    energy_ratio: Ratio | None
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

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows, for any way of printing.

        They are (figure, A, B, B / A); of a network alone (figure, A, interval of a time).
        """
        a, b = self.a, self.b
        rows = [
            *time_rows("CPU time", a.cpu, b.cpu if b else None, self.cpu_ratio),
            *time_rows("wall time", a.wall, b.wall if b else None, self.wall_ratio),
            *device_rows(a, b, self.device_ratio),
            *memory_rows(a, b, self.memory_ratio),
            row("file size", size, a.file_bytes, b.file_bytes if b else None, self.size_ratio),
            row("load time", ms, a.load_ms, b.load_ms if b else None),
        ]
        bits = [a.bits, b.bits if b else None]
        if any(bits):
            for kind in ("requested", "executed"):
                cells = [str(getattr(of, kind, "-")) for of in bits]
                rows.append((f"bits, {kind}", cells[0], cells[1], ""))
        rows += power_rows(a.power, b.power if b else None, self.energy_ratio)
        return [*rows] if b else [(title, of_a, last) for title, of_a, _, last in rows]

    def table(self) -> str:
        """Return the comparison as plain text."""
        rows = [("", *self.titles(), "B / A (95 % interval)" if self.b else "95 % interval")]
        rows += self.rows()
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

    def titles(self) -> tuple[str, ...]:
        """Return the heads of both columns, or of the one."""
        sides = [side for side in (self.a, self.b) if side is not None]
        return tuple(f"{letter}: {_title(side)}" for letter, side in zip("AB", sides, strict=False))

    def conditions(self) -> list[str]:
        """Return the lines that say how and where this was measured."""
        shape = "x".join(str(extent) for extent in self.input_shape)
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        runs = "interleaved pairs in random order" if self.b else "runs"
        backends = f"A on {self.a.backend}" + (f", B on {self.b.backend}" if self.b else "")
        return [
            f"{threads}, input {shape} ({self.input_source}), {self.runs} {runs} after "
            f"{self.warmup} to warm up, seed {self.seed}.",
            f"{backends}; {self.machine.summary()}.",
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


def _title(side: Variant) -> str:
    """Name and form of a network, and once what both say."""
    name, form = shown(side.name, _NAME), shown(side.form or "", _NAME)
    if not form or form.startswith(name):
        return form or name
    return f"{name} ({form})"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
