"""The picture of ``speed.json``: speed of every variant on every network, one thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.networks import NETWORKS
from benchmarks.records import Record
from benchmarks.variants import OWN, title
from waveedge.files import atomic_file
from waveedge.runtime.pictures import figure

__all__ = ["save_plot"]


def save_plot(rows: Sequence[Record], path: Path) -> None:
    """Draw bars with their intervals on a logarithmic axis, one group a network.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    good = [row for row in rows if "error" not in row and row["threads"] == 1]
    networks = list(dict.fromkeys(row["network"] for row in good))
    variants = [name for name in OWN if any(row["variant"] == name for row in good)]
    if not good:
        return
    drawn = figure((9, 1.6 + 0.16 * len(good) + 0.3 * len(networks)))
    axes = drawn.subplots()
    place, ticks = 0.0, []
    for network in networks:
        group = [row for row in good if row["network"] == network]
        group.sort(key=lambda row: variants.index(row["variant"]))
        ticks.append(place + (len(group) - 1) / 2)
        for row in group:
            ratio = row["cpu_ratio"]
            interval = [[ratio["value"] - ratio["low"]], [ratio["high"] - ratio["value"]]]
            color = f"C{variants.index(row['variant'])}"
            bar = axes.barh(place, ratio["value"], 0.8, xerr=interval, color=color)
            axes.bar_label(bar, [f" {ratio['value']:.2f}"], fontsize="x-small")
            place += 1
        place += 1
    for index, name in enumerate(variants):
        axes.barh(0, 0, color=f"C{index}", label=title(name))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(ticks, [NETWORKS[network].title for network in networks], fontsize="small")
    axes.set_ylim(place, -1)
    axes.margins(x=0.12)
    axes.set_xlabel("speed against the published export (CPU time, one thread)")
    drawn.legend(fontsize="small", loc="outside upper center", ncols=2)
    with atomic_file(path) as temporary:
        drawn.savefig(temporary, format="png", dpi=150)
