"""The rows of a comparison's table: a figure of A, the same of B, and their ratio."""

from __future__ import annotations

from collections.abc import Callable

from waveedge.runtime.figures import Ratio, Timing
from waveedge.runtime.power import Power

__all__ = ["Row", "device_rows", "ms", "power_rows", "ratio_text", "row", "size", "time_rows"]

Row = tuple[str, str, str, str]


def time_rows(title: str, a: Timing, b: Timing, ratio: Ratio) -> list[Row]:
    """Median and tail of a time."""
    return [
        (f"{title}, median", ms(a.median), ms(b.median), ratio_text(ratio)),
        (f"{title}, p90", ms(a.p90), ms(b.p90), ""),
        (f"{title}, p99", ms(a.p99), ms(b.p99), ""),
    ]


def device_rows(a: Timing | None, b: Timing | None) -> list[Row]:
    """Time on the GPU, where one of both ran there."""
    if a is None and b is None:
        return []
    medians = [side.median if side is not None else None for side in (a, b)]
    ratio = b.median / a.median if a and b and a.median else None
    return [row("time on the GPU, median", ms, medians[0], medians[1], ratio)]


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
