"""The pictures of the three tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import METRICS
from benchmarks.networks import NETWORKS
from benchmarks.quality_tables.curves import Point
from benchmarks.quality_tables.forms import PUBLISHED, series, typed_forms
from benchmarks.quality_tables.judging import TARGETS, Spread, figure_of
from benchmarks.quality_tables.pages import points, rows_of, title_of, unit_of
from benchmarks.quality_tables.redundancy import AS_IT_IS, HALVES
from benchmarks.records import Record, Records
from waveedge.files import atomic_file
from waveedge.runtime.pictures import figure

__all__ = ["save_plot"]

Forms = Mapping[str, Sequence[Record]]

_SERIES = {"plain": "plain quantization", "static": "WCC, static", "topk": "WCC, top-k"}
_MARKS = {8: ("o", "-"), 4: ("s", "--")}
"""Weight bits -> how a series is drawn."""


def save_plot(stage: str, records: Records, path: Path) -> None:
    """Draw a table's picture; nothing where nothing was measured.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    names = dict.fromkeys(row["network"] for row in records.rows)
    networks = {name: rows_of(records.rows, name) for name in names}
    networks = {name: forms for name, forms in networks.items() if forms}
    drawn = _PICTURES[stage](networks) if networks else None
    if drawn is not None:
        with atomic_file(path) as temporary:
            drawn.savefig(temporary, format="png", dpi=150)


def _targets(networks: Mapping[str, Forms]) -> Any:
    """Losses and speeds as bars, with a stroke where a target is."""
    variants = [name for name in typed_forms() if any(name in forms for forms in networks.values())]
    return _bars(networks, variants, {"loss": "loss, dB or points", "speed": "speed"})


def _redundancy(networks: Mapping[str, Forms]) -> Any:
    return _bars(networks, [name for name in HALVES if name != AS_IT_IS], {"loss": "loss"})


def _bars(networks: Mapping[str, Forms], variants: Sequence[str], shown: Mapping[str, str]) -> Any:
    """Networks down, a group of bars each; spreads over seeds as whiskers."""
    count = len(networks) * (len(variants) + 1)
    drawn = figure((5.5 * len(shown), 1.4 + 0.24 * count))
    panels = drawn.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (name, label) in zip(panels, shown.items(), strict=True):
        place, ticks = 0.0, []
        for network, forms in networks.items():
            ticks.append(place + (len(variants) - 1) / 2)
            for index, variant in enumerate(variants):
                found = figure_of(forms.get(variant, ()), name)
                if found is not None:
                    _bar(axes, place, found, f"C{index}", _unit(name, forms[variant][0]))
                for target in TARGETS:
                    if (target.network, target.form, target.figure) == (network, variant, name):
                        stroke = [place - 0.45, place + 0.45]
                        axes.plot([target.bound] * 2, stroke, color="black")
                place += 1
            place += 1
        axes.set_yticks(ticks, [NETWORKS[name].title for name in networks], fontsize="small")
        axes.set_ylim(place - 0.5, -1)
        axes.margins(x=0.2)
        axes.set_xlabel(label)
    for index, name in enumerate(variants):
        panels[0].barh(0, 0, color=f"C{index}", label=title_of(name))
    if any(target.form in variants for target in TARGETS):
        panels[0].plot([], [], color="black", label="target")
    drawn.legend(fontsize="small", loc="outside upper center", ncols=2)
    return drawn


def _bar(axes: Any, place: float, found: Spread, color: str, unit: str) -> None:
    whisker = [[found.median - found.low], [found.high - found.median]]
    bar = axes.barh(place, found.median, 0.8, xerr=whisker, color=color)
    axes.bar_label(bar, [f" {found.median:.2f}{unit}"], fontsize="x-small")


def _unit(name: str, row: Record) -> str:
    return f" {unit_of(row)}" if name == "loss" else ""


def _paper(networks: Mapping[str, Forms]) -> Any:
    """Two panels a network: quality over bit operations, and over time."""
    found = {name: points(forms) for name, forms in networks.items()}
    found = {name: by_form for name, by_form in found.items() if by_form}
    if not found:
        return None
    drawn = figure((10, 0.8 + 3.6 * len(found)))
    panels = drawn.subplots(len(found), 2, sharey="row", squeeze=False)
    for (network, by_form), (operations, times) in zip(found.items(), panels, strict=True):
        _curves(operations, by_form, lambda point: point.bops)
        _curves(times, by_form, lambda point: point.time)
        first = next(iter(networks[network].values()))[0]
        operations.set_ylabel(METRICS[first["metric"]][0])
        operations.set_xscale("log")
        operations.set_xlabel("bit operations")
        times.set_xlabel("time, float network = 1 (CPU, one thread)")
        for axes in (operations, times):
            axes.set_title(NETWORKS[network].title, fontsize="medium")
    handles, labels = panels[0][0].get_legend_handles_labels()
    drawn.legend(handles, labels, fontsize="small", loc="outside upper center", ncols=3)
    return drawn


def _curves(axes: Any, by_form: Mapping[str, Point], across: Callable[[Point], float]) -> None:
    groups: dict[tuple[str, int], list[Point]] = {}
    for name, point in by_form.items():
        if name != PUBLISHED:
            groups.setdefault(series(name), []).append(point)
    for (kind, bits), members in groups.items():
        marker, line = _MARKS[bits]
        members = sorted(members, key=lambda point: point.bops)
        axes.plot(
            [across(point) for point in members],
            [point.quality for point in members],
            color=f"C{list(_SERIES).index(kind)}",
            marker=marker,
            linestyle=line,
            label=f"{_SERIES[kind]}, {bits}-bit weights",
        )
    if PUBLISHED in by_form:
        axes.axhline(by_form[PUBLISHED].quality, color="black", linewidth=0.8, label="float")


_PICTURES = {"quality_targets": _targets, "paper_table": _paper, "redundancy": _redundancy}
