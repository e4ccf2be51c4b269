"""The rows of a comparison's table: a figure of A, the same of B, and their ratio."""

from __future__ import annotations

from collections.abc import Callable

from waveedge.runtime.figures import GraphTiming, Ratio, Timing, Variant
from waveedge.runtime.power import Power

__all__ = [
    "Row",
    "device_rows",
    "memory_rows",
    "ms",
    "power_rows",
    "ratio_text",
    "row",
    "size",
    "time_rows",
]

Row = tuple[str, str, str, str]


def time_rows(title: str, a: Timing, b: Timing, ratio: Ratio) -> list[Row]:
    """Median and tail of a time."""
    return [
        (f"{title}, median", ms(a.median), ms(b.median), ratio_text(ratio)),
        (f"{title}, p90", ms(a.p90), ms(b.p90), ""),
        (f"{title}, p99", ms(a.p99), ms(b.p99), ""),
    ]


def device_rows(a: Variant, b: Variant) -> list[Row]:
    """Times on the GPU, where one of both ran there, and what a CUDA graph changes."""
    if a.device is None and b.device is None:
        return []

    def medians(of: Callable[[Variant], Timing | None]) -> tuple[float | None, float | None]:
        return _median(of(a)), _median(of(b))

    ratio = b.device.median / a.device.median if a.device and b.device and a.device.median else None
    rows = [
        row("GPU: copy to it, median", ms, *medians(lambda side: side.to_device)),
        row("GPU: execution, median", ms, *medians(lambda side: side.device), ratio),
        row("GPU: copy back, median", ms, *medians(lambda side: side.to_host)),
    ]
    graphs = [side.cuda_graph or GraphTiming() for side in (a, b)]
    if any(graph.ratio for graph in graphs):
        for title, name in (("without", "off"), ("with", "on")):
            values = [_median(getattr(graph, name)) for graph in graphs]
            rows.append(row(f"wall time {title} CUDA graph", ms, *values))
        gains = [ratio_text(graph.ratio) if graph.ratio else "-" for graph in graphs]
        rows.append(("without / with", gains[0], gains[1], ""))
    return rows


def _median(time: Timing | None) -> float | None:
    return time.median if time is not None else None


def memory_rows(a: Variant, b: Variant, ratio: float | None) -> list[Row]:
    """Where both take memory; what neither could tell is left out, but for the first."""
    rows = [row("peak activation memory", size, a.peak_bytes, b.peak_bytes, ratio)]
    kinds = [
        ("process, peak resident memory", "process_bytes"),
        ("the board's memory", "board_bytes"),
    ]
    if a.device or b.device:  # elsewhere weights are the file, and there is no context
        kinds[:0] = [("weights", "weights_bytes"), ("execution context", "context_bytes")]
    for title, kind in kinds:
        values = [getattr(side.memory, kind, None) for side in (a, b)]
        if values != [None, None]:
            rows.append(row(title, size, *values))
    return rows


def power_rows(a: Power | None, b: Power | None) -> list[Row]:
    """Energy and power, where something measured them."""
    if a is None and b is None:
        return []

    def of(figure: Callable[[Power], float]) -> list[float | None]:
        return [None if power is None else figure(power) for power in (a, b)]

    rows = [
        row("energy of a run, above rest", _millijoules, *of(lambda power: power.joules_per_run)),
        row("energy of a run, in all", _millijoules, *of(lambda power: power.total_joules_per_run)),
        row("power under load", _watts, *of(lambda power: power.watts)),
    ]
    # A run that is lost in what the machine takes at rest has no ratio to another.
    if a and b and min(a.joules_per_run, b.joules_per_run) > 0:
        rows[0] = (*rows[0][:3], f"{b.joules_per_run / a.joules_per_run:.2f}x")
    return rows


def row(
    title: str,
    form: Callable[[float], str],
    a: float | None,
    b: float | None,
    ratio: float | None = None,
) -> Row:
    """One row; a figure that is not known is a dash."""
    cells = ["-" if value is None else form(value) for value in (a, b)]
    return title, cells[0], cells[1], "" if ratio is None else f"{ratio:.2f}x"


def ms(value: float) -> str:
    """Milliseconds."""
    return f"{value:.2f} ms"


def size(value: float) -> str:
    """Bytes, in a unit that suits them."""
    return f"{value / 2**20:.2f} MiB" if value >= 2**20 else f"{value / 2**10:.1f} KiB"


def _watts(value: float) -> str:
    return f"{value:.2f} W"


def _millijoules(value: float) -> str:
    return f"{value * 1000:.1f} mJ"


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its interval."""
    return f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
