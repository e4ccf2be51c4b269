"""The page of ``peers.json``: waveedge's forms against the best alternative on any runtime."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.choices import best_alternative, is_alternative
from benchmarks.markdown import decibels, interval, table
from benchmarks.networks import NETWORKS
from benchmarks.records import Record
from benchmarks.variants import OWN, title

__all__ = ["peers_page"]


def peers_page(rows: Sequence[Record]) -> list[str]:
    """Return the parts of the page."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    contests = [[row for row in rows if row["network"] == network] for network in networks]
    heads = ("network", "form", "its speed", "best alternative", "its speed", "times faster")
    return [
        "# Against every peer on its own ground",
        "Each tool on the runtime that it was made for, under each of its settings, one thread, "
        "CPU time. Speed: against the network exported as it was published, on onnxruntime; above "
        "1 is faster. All forms of a network take turns in one run, those of other runtimes in "
        "processes of their own. Decibels: signal-to-noise ratio to the published output on "
        "held-out images.",
        "## waveedge against the best alternative",
        "The fastest of all peers and the published export whose quality is no worse than the "
        "form's own; behind it, where another is faster at worse quality, the fastest of all. "
        "Below 1, the alternative is the faster.",
        table(heads, [line for contest in contests for line in _against_best(contest)]),
        "## Every form",
        *(part for contest in contests for part in _everything(contest)),
    ]


def _against_best(rows: Sequence[Record]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    fastest = max(
        filter(is_alternative, rows), key=lambda row: float(row["cpu_ratio"]["value"]), default=None
    )
    for own in rows:
        if own["variant"] not in OWN or "error" in own or fastest is None:
            continue
        best = best_alternative(rows, own)
        found = [best] if best is fastest else [best, fastest]
        lines.append(
            (
                NETWORKS[own["network"]].title,
                title(own["variant"]),
                _speed(own),
                "; worse: ".join(title(row["variant"]) for row in found),
                "; ".join(_speed(row) for row in found),
                "; ".join(interval(row["against"][own["variant"]]) for row in found),
            )
        )
    return lines


def _speed(row: Record) -> str:
    return f"{row['cpu_ratio']['value']:.2f} ({decibels(row)})"


def _everything(rows: Sequence[Record]) -> list[str]:
    heads = ("form", "runtime", "speed", "quality", "CPU time")
    good = sorted(
        (row for row in rows if "error" not in row), key=lambda row: -row["cpu_ratio"]["value"]
    )
    lines = [
        (
            title(row["variant"]),
            row["runtime"],
            interval(row["cpu_ratio"]),
            decibels(row),
            f"{row['cpu_ms']:.1f} ms",
        )
        for row in good
    ]
    return [f"### {NETWORKS[rows[0]['network']].title}", table(heads, lines)]
