"""The rows of a comparison's table: a figure of A, the same of B, and their ratio.

Where there is no B, its cells are dashes, and a time's interval stands where the ratio would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from waveedge.runtime.figures import GraphTiming, Ratio, Timing, Variant
from waveedge.runtime.power import Power

__all__ = [
    "Row",
    "device_rows",
    "interval_text",
    "memory_rows",
    "ms",
    "power_rows",
    "ratio_text",
    "row",
    "size",
    "time_rows",
]

Row = tuple[str, str, str, str]


def time_rows(title: str, a: Timing, b: Timing | None, ratio: Ratio | None) -> list[Row]:
    """Median and tail of a time."""
    median, *tail = (
        row(f"{title}, {name}", ms, getattr(a, name), getattr(b, name, None))
        for name in ("median", "p90", "p99")
    )
    return [(*median[:3], ratio_text(ratio) if ratio else interval_text(a)), *tail]


def device_rows(a: Variant, b: Variant | None, ratio: Ratio | None) -> list[Row]:
    """Times on the GPU, where one of both ran there, and what a CUDA graph changes."""
    if a.device is None and (b is None or b.device is None):
        return []
    rows = [
        _medians("GPU: copy to it, median", a, b, "to_device"),
        _medians("GPU: execution, median", a, b, "device", ratio),
        _medians("GPU: copy back, median", a, b, "to_host"),
    ]
    graph_a = a.cuda_graph or GraphTiming()
    graph_b = (b.cuda_graph or GraphTiming()) if b else None
    graphs = [graph_a, graph_b or GraphTiming()]
    if any(graph.ratio for graph in graphs):
        for title, name in (("without", "off"), ("with", "on")):
            rows.append(_medians(f"wall time {title} CUDA graph", graph_a, graph_b, name))
        gains = [ratio_text(graph.ratio) if graph.ratio else "-" for graph in graphs]
        rows.append(("without / with", gains[0], gains[1], ""))
    return rows


_Timed = TypeVar("_Timed", Variant, GraphTiming)


def _medians(title: str, a: _Timed, b: _Timed | None, name: str, ratio: Ratio | None = None) -> Row:
    """The medians of the times of that name, where there are."""
    time: Timing | None = getattr(a, name)
    other: Timing | None = getattr(b, name, None)
    values = [found.median if found else None for found in (time, other)]
    cells: Row = row(title, ms, values[0], values[1])
    if ratio:
        return (*cells[:3], ratio_text(ratio))
    return (*cells[:3], interval_text(time)) if b is None and time else cells


def memory_rows(a: Variant, b: Variant | None, ratio: float | None) -> list[Row]:
    """Where both take memory; what neither could tell is left out, but for the first."""
    peak_b = b.peak_bytes if b else None
    rows = [row("peak activation memory", size, a.peak_bytes, peak_b, ratio)]
    kinds = [
        ("process, peak resident memory", "process_bytes"),
        ("the board's memory", "board_bytes"),
    ]
    if a.device or (b and b.device):  # elsewhere weights are the file, and there is no context
        kinds[:0] = [("weights", "weights_bytes"), ("execution context", "context_bytes")]
    for title, kind in kinds:
        values = [getattr(side and side.memory, kind, None) for side in (a, b)]
        if values != [None, None]:
            rows.append(row(title, size, *values))
    return rows


def power_rows(a: Power | None, b: Power | None, ratio: Ratio | None) -> list[Row]:
    """Energy and power, where something measured them."""
    if a is None and b is None:
        return []

    def of(figure: Callable[[Power], float]) -> list[float | None]:
        return [None if power is None else figure(power) for power in (a, b)]

    above, *rows = [
        row("energy of a run, above rest", _millijoules, *of(lambda power: power.joules_per_run)),
        row("energy of a run, in all", _millijoules, *of(lambda power: power.total_joules_per_run)),
        row("power under load", _watts, *of(lambda power: power.watts)),
    ]
    rounds = max(len(power.rounds) for power in (a, b) if power)
    if rounds == 1:
        return [above, *rows]
    if ratio:
        span = f"{ratio.low:.2f} to {ratio.high:.2f} over {rounds} rounds"
        above = (*above[:3], f"{ratio.value:.2f}x ({span})")
    spread = [_spread(power) if power else "-" for power in (a, b)]
    return [above, (f"its least and most of {rounds} rounds", spread[0], spread[1], ""), *rows]


def _spread(power: Power) -> str:
    return f"{min(power.rounds) * 1000:.1f} to {_millijoules(max(power.rounds))}"


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


def interval_text(time: Timing) -> str:
    """The interval of a time's median."""
    return f"{time.low:.2f} to {ms(time.high)}"


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its interval."""
    return f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
