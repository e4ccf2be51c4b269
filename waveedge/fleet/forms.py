"""A table of what each form of a bundle takes on each board, as ``waveedge build --race`` found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from waveedge.fleet.measure import Outcome
from waveedge.fleet.summary import at, cell, number
from waveedge.runtime.engine_manifest import engine_name
from waveedge.runtime.schema import shown

__all__ = ["FORM_COLUMNS", "form_rows"]

FORM_COLUMNS = (
    *("board", "form", "time", "of the chosen one", "to your network"),
    *("memory", "energy of a run", ""),
)

_MOST_ROWS = 64


def form_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the cells of :data:`FORM_COLUMNS`, one row a board and form, as the race has them.

    The race times alone; memory and energy are those of the forms that ``waveedge bench`` ran
    afterwards, the chosen one and the published one. A form without an engine has its reason.
    """
    rows = []
    for outcome in outcomes:
        title = shown(outcome.board.title, 40)
        laps, built = (_list(outcome.engines, name) for name in ("race", "engines"))
        raced = {str(at(lap, "form")) for lap in laps}
        missing = [one for one in built if at(one, "error") and str(at(one, "form")) not in raced]
        rows += [(title, *_lap(lap, outcome)) for lap in laps]
        rows += [(title, *_reason(one, "no engine")) for one in missing]
    return rows


def _lap(lap: Any, outcome: Outcome) -> tuple[str, ...]:
    time, quality = number(lap, "ms"), number(lap, "snr_db")
    if time is None:
        return _reason(lap, "did not run")
    side = _side(lap, outcome)
    verdict = "chosen" if at(lap, "chosen") is True else ""
    return (
        _name(lap),
        f"{time:.2f} ms",
        _slower(at(lap, "slower")),
        "-" if quality is None else f"{quality:.1f} dB",
        cell(number(side, "peak_bytes"), "MiB", 2**20),
        cell(number(side, "power", "joules_per_run"), "mJ", 1e-3),
        verdict if at(lap, "admitted") is not False else "not good enough",
    )


def _reason(entry: Any, what: str) -> tuple[str, ...]:
    return (_name(entry), *"-----", f"{what}: {shown(str(at(entry, 'error')), 120)}")


def _name(entry: Any) -> str:
    core = number(entry, "dla_core")
    place = "" if core is None else f", DLA core {core:.0f}"
    return f"{shown(str(at(entry, 'form')), 40)}{place}"


def _slower(value: Any) -> str:
    if not isinstance(value, list) or len(value) != 3:
        return "-"
    ratio, low, high = (number({"of": end}, "of") for end in value)
    if ratio is None or low is None or high is None:
        return "-"
    return f"{ratio:.2f}x [{low:.2f}, {high:.2f}]"


def _side(lap: Any, outcome: Outcome) -> Any:
    """What ``waveedge bench`` measured of the engine of a lap, which it names by its path."""
    core = number(lap, "dla_core")
    engine = engine_name(str(at(lap, "file")), None if core is None else round(core))
    for side in ("a", "b"):
        if PurePosixPath(str(at(outcome.report, side, "path"))).name == engine:
            return at(outcome.report, side)
    return None


def _list(engines: Any, name: str) -> list[Any]:
    found = at(engines, name)
    return found[:_MOST_ROWS] if isinstance(found, list) else []
