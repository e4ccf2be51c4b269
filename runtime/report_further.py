"""Tables beside a comparison's own: several batches, several streams; of A alone without B."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from waveedge.runtime.figures import BatchRow, BatchTiming, Rate, Throughput
from waveedge.runtime.report_rows import interval_text, ms, ratio_text

__all__ = ["aligned", "batch_rows", "further_conditions", "stream_rows"]

Cells = tuple[str, ...]


def aligned(rows: Sequence[Cells]) -> list[str]:
    """Return lines of text: a table's heads, a rule, and its rows; figures at the right."""
    last = len(rows[0]) - 1
    widths = [max(len(cells[column]) for cells in rows) for column in range(last + 1)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    ]
    lines.insert(1, "-" * len(max(lines, key=len)))
    return lines


def batch_rows(batches: Sequence[BatchRow]) -> list[Cells]:
    """One row a batch: time of a run and images a second of both."""
    if not batches:
        return []
    if batches[0].b is None:
        heads: Cells = ("batch", "A: run", "A: images/s", "run (95 % interval)")
        return [heads, *((str(row.batch), *_cells(row.a), _interval(row.a)) for row in batches)]
    heads = ("batch", "A: run", "A: images/s", "B: run", "B: images/s", "B / A (95 % interval)")
    return [
        heads,
        *(
            (
                str(row.batch),
                *_cells(row.a),
                *_cells(row.b),
                ratio_text(row.wall_ratio) if row.wall_ratio else "",
            )
            for row in batches
        ),
    ]


def stream_rows(throughput: Throughput | None) -> list[Cells]:
    """Images a second of both with several streams."""
    if throughput is None:
        return []
    streams, a, b = str(throughput.streams), throughput.a, throughput.b
    if b is None or throughput.ratio is None:
        return [("streams", "A: images/s (95 % interval)"), (streams, _rate(a))]
    heads = ("streams", "A: images/s", "B: images/s", "A / B (95 % interval)")
    return [heads, (streams, _rate(a), _rate(b), ratio_text(throughput.ratio))]


def further_conditions(batches: Sequence[BatchRow], throughput: Throughput | None) -> Iterator[str]:
    """How these were measured, and what was refused."""
    for row in batches:
        if row.a.reason and (row.b is None or row.a.reason == row.b.reason):
            yield f"Batch {row.batch}: {row.a.reason}"
            continue
        for side, timing in (("A", row.a), ("B", row.b)):
            if timing is not None and timing.reason:
                yield f"Batch {row.batch}, {side}: {timing.reason}"
    if throughput is not None:
        turns = " of each side in random order" if throughput.b else ""
        yield (
            f"Throughput: {throughput.streams} runs of {throughput.batch} at once, in threads, "
            f"{len(throughput.a.samples)} windows of {throughput.seconds:g} s{turns}; copies are "
            "in it."
        )
        a = throughput.a.how
        b = throughput.b.how if throughput.b else None
        both = f"A and B: {a}." if a == b else f"A: {a}. B: {b}."
        yield both if throughput.b else f"A: {a}."


def _cells(timing: BatchTiming | None) -> tuple[str, str]:
    if timing is None or timing.wall is None or timing.images_per_second is None:
        return "refused", "-"
    return ms(timing.wall.median), f"{timing.images_per_second:.1f}"


def _interval(timing: BatchTiming) -> str:
    return interval_text(timing.wall) if timing.wall else ""


def _rate(rate: Rate) -> str:
    return f"{rate.value:.1f} ({rate.low:.1f} to {rate.high:.1f})"
