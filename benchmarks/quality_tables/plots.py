"""The pictures of the three tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from benchmarks.markdown import METRICS
from benchmarks.networks import NETWORKS
from benchmarks.quality_tables.curves import Point
from benchmarks.quality_tables.forms import PUBLISHED, series, typed_forms
from benchmarks.quality_tables.judging import TARGETS, Target, figure_of
from benchmarks.quality_tables.pages import DIGITS, points, rows_of, title_of, unit_of
from benchmarks.quality_tables.redundancy import AS_IT_IS, HALVES
from benchmarks.records import Record, Records
from waveedge.files import atomic_file
from waveedge.runtime.pictures import figure

__all__ = ["save_plot"]

Forms = Mapping[str, Sequence[Record]]

_SERIES = {"plain": "plain quantization", "static": "WCC, static", "topk": "WCC, top-k"}
_MARKS = {8: ("o", "-", "full"), 4: ("s", "--", "none")}
"""Weight bits -> marker, line, and how the marker is filled."""


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
    return _bars(networks, variants, ("loss", "speed"))


def _redundancy(networks: Mapping[str, Forms]) -> Any:
    return _bars(networks, [name for name in HALVES if name != AS_IT_IS], ("loss",))


def _bars(networks: Mapping[str, Forms], variants: Sequence[str], shown: Sequence[str]) -> Any:
    """A row of panels a network, as decibels and points are no one scale; spreads as whiskers."""
    height = 0.75 + 0.22 * len(variants)
    drawn = figure((2 + 4 * len(shown), 0.8 + height * len(networks)))
    panels = drawn.subplots(len(networks), len(shown), squeeze=False)
    for (network, forms), row in zip(networks.items(), panels, strict=True):
        for axes, name in zip(row, shown, strict=True):
            for place, variant in enumerate(variants):
                if variant in forms:
                    _bar(axes, place, name, forms[variant])
            axes.set_yticks([])
            axes.set_ylim(len(variants) - 0.4, -0.6)
            axes.margins(x=0.2)
            label = f"loss, {unit_of(next(iter(forms.values()))[0])}" if name == "loss" else name
            axes.set_xlabel(label, fontsize="small")
        row[0].set_ylabel("\n".join(wrap(NETWORKS[network].title, 18)), fontsize="small")
    first = panels[0][0]
    for place, name in enumerate(variants):
        first.barh(0, 0, color=f"C{place}", label=title_of(name))
    if any(target.form in variants for target in TARGETS):
        first.plot([], [], color="black", label="target")
    drawn.legend(fontsize="small", loc="outside upper center", ncols=2)
    return drawn


def _bar(axes: Any, place: int, name: str, rows: Sequence[Record]) -> None:
    found = figure_of(rows, name)
    if found is None:
        return
    whisker = [[found.median - found.low], [found.high - found.median]]
    bar = axes.barh(place, found.median, 0.8, xerr=whisker, color=f"C{place}")
    text = DIGITS[unit_of(rows[0])] if name == "loss" else "{:.2f}"
    axes.bar_label(bar, [f" {text.format(found.median)}"], fontsize="x-small")
    for target in TARGETS:
        if (target.network, target.form) == (rows[0]["network"], rows[0]["variant"]):
            bound = _bound(target, name, rows[0])
            if bound is not None:
                axes.plot([bound, bound], [place - 0.45, place + 0.45], color="black")


def _bound(target: Target, name: str, row: Record) -> float | None:
    """Where a target lies on the axis of a figure; a share of the gain is a loss as well."""
    if target.figure == "share" and name == "loss":
        gain: float = row["value"] + row["loss"] - row["baseline"]
        return (1 - target.bound) * gain
    return target.bound if target.figure == name else None


def _paper(networks: Mapping[str, Forms]) -> Any:
    """Two panels a network: quality over bit operations, and over time."""
    found = {name: points(forms) for name, forms in networks.items()}
    found = {name: by_form for name, by_form in found.items() if by_form}
    if not found:
        return None
    drawn = figure((10, 0.8 + 3.6 * len(found)))
    panels = drawn.subplots(len(found), 2, sharey="row", squeeze=False)
    for (network, by_form), (operations, times) in zip(found.items(), panels, strict=True):
        _curves(operations, by_form, lambda point: point.bops / 1e9)
        _curves(times, by_form, lambda point: point.time)
        first = next(iter(networks[network].values()))[0]
        operations.set_ylabel(METRICS[first["metric"]][0])
        operations.set_xscale("log")
        operations.xaxis.set_major_formatter("{x:g}")
        operations.xaxis.set_minor_formatter("{x:g}")
        operations.tick_params(axis="x", which="both", labelsize="small")
        operations.set_xlabel("bit operations, G")
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
        marker, line, fill = _MARKS[bits]
        members = sorted(members, key=lambda point: point.bops)
        axes.plot(
            [across(point) for point in members],
            [point.quality for point in members],
            color=f"C{list(_SERIES).index(kind)}",
            marker=marker,
            linestyle=line,
            fillstyle=fill,
            label=f"{_SERIES[kind]}, {bits}-bit weights",
        )
    if PUBLISHED in by_form:
        axes.axhline(by_form[PUBLISHED].quality, color="black", linewidth=0.8, label="float")


_PICTURES = {"quality_targets": _targets, "paper_table": _paper, "redundancy": _redundancy}
