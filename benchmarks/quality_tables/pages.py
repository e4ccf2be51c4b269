"""The three tables for readers: Markdown made from the records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.markdown import METRICS, conditions, interval, table
from benchmarks.networks import NETWORKS
from benchmarks.quality_tables.curves import Point, at_equal_bops, at_equal_time
from benchmarks.quality_tables.forms import (
    PAPER_STEPS,
    PUBLISHED,
    SELECTIONS,
    paper_forms,
    series,
    typed_forms,
)
from benchmarks.quality_tables.judging import TARGETS, figure_of, median_row, spread
from benchmarks.quality_tables.redundancy import HALVES
from benchmarks.records import Record, Records, write_text
from waveedge.console import count

__all__ = ["DIGITS", "points", "render", "rows_of", "title_of", "unit_of"]

COMMAND = "make bench-quality"

Forms = dict[str, list[Record]]
"""Of one network: form -> its records, one of each seed."""

_TITLES = {PUBLISHED: "float"} | {
    name: own.title for name, own in {**typed_forms(), **paper_forms()}.items()
}


DIGITS = {"dB": "{:.3f}", "points": "{:.2f}"}
"""Unit of a loss -> how it is written: a target is 0.05 dB."""


def title_of(form: str) -> str:
    """A form for readers."""
    return _TITLES.get(form, form)


def render(stage: str, records: Records, out: Path) -> str:
    """Write ``STAGE.md`` beside the records of a stage, and return its text."""
    by_network = {
        name: rows_of(records.rows, name)
        for name in dict.fromkeys(row["network"] for row in records.rows)
    }
    parts = _PAGES[stage]({name: forms for name, forms in by_network.items() if forms})
    failed = [
        f"* {row['network']}, {title_of(row['variant'])}, seed {row['seed']}: {row['error']}"
        for row in records.rows
        if "error" in row
    ]
    parts = [*parts, *(["Failed:", "\n".join(failed)] if failed else [])]
    text = "\n\n".join([*parts, conditions(records, COMMAND)]) + "\n"
    write_text(out / f"{stage}.md", text)
    return text


def rows_of(rows: Sequence[Record], network: str) -> Forms:
    """The records of one network by form, without those of an error."""
    forms: Forms = {}
    for row in rows:
        if row["network"] == network and "error" not in row:
            forms.setdefault(row["variant"], []).append(row)
    return forms


def unit_of(row: Record) -> str:
    """What a loss is counted in."""
    return "dB" if row["metric"] == "psnr_db" else "points"


def points(forms: Mapping[str, Sequence[Record]]) -> dict[str, Point]:
    """The forms that were timed on the two planes of the paper's table, by medians over seeds.

    Times are relative to the float network's in the same run; quality is that of the metric's unit.
    """
    found = {}
    for name, rows in forms.items():
        speed = figure_of(rows, "speed")
        if speed is not None:
            scale = METRICS[rows[0]["metric"]][1]
            quality = scale * spread(row["value"] for row in rows).median
            bops = spread(row["bops"] for row in rows).median
            found[name] = Point(bops, 1 / speed.median, quality)
    return found


def _targets_page(networks: Mapping[str, Forms]) -> list[str]:
    parts = [
        "# What the typed line gives",
        "`waveedge compress` with these flags on the trained networks, and what was aimed at. "
        "Medians over seeds, the least and the most in brackets; a target holds for the median. "
        "A seed chooses the images that calibrate. Speed is against `--bits 8 --no-shrink`, all "
        "forms of a network in one run, on one thread.",
        "## Targets",
        table(
            ("network", "line", "target", "measured", "met"),
            [line for network, forms in networks.items() for line in _judged(network, forms)],
        ),
    ]
    for network, forms in networks.items():
        first = _first(forms)
        unit = unit_of(first)
        heads = ["", METRICS[first["metric"]][0], f"loss, {unit}"]
        heads += ["gain kept"] * ("share" in first)
        heads += ["CPU minutes", "layers in int8 / float", "multiply-adds", "BOPs", "speed"]
        parts += [
            f"## {NETWORKS[network].title}",
            _scored_on(first, forms),
            table(heads, [_typed(name, rows) for name, rows in forms.items()]),
        ]
    return [
        *parts,
        "The gain is that over doing without a network (bicubic enlargement, the noisy photo). CPU "
        "minutes are those of `compress`, of all threads. Layers are nodes with weights of the "
        "graph that onnxruntime executes; fewer than 8 bits execute in 8.",
    ]


def _judged(network: str, forms: Forms) -> Iterator[tuple[str, ...]]:
    for target in TARGETS:
        if target.network != network or target.form not in forms:
            continue
        found = figure_of(forms[target.form], target.figure)
        text, met = "not measured", "-"
        if found is not None:
            text = found.text(_digits(target.figure, forms[target.form][0]))
            met = "yes" if target.met(found.median) else "no"
        title = f"`{title_of(target.form)}`"
        yield NETWORKS[network].title, title, target.text, text, met


def _digits(figure: str, row: Record) -> str:
    """How a figure is written."""
    forms = {"share": "{:.1%}", "loss": DIGITS[unit_of(row)]}
    return forms.get(figure, "{:.2f}")


def _typed(name: str, rows: Sequence[Record]) -> list[str]:
    first = rows[0]
    share, minutes = figure_of(rows, "share"), figure_of(rows, "cpu_minutes")
    cells = [title_of(name) if name == PUBLISHED else f"`{title_of(name)}`", *_quality(rows)]
    cells += [share.text("{:.1%}")] if share else []
    return [
        *cells,
        minutes.text() if minutes else "-",
        f"{first['bits']['int8']} / {first['bits']['float']}",
        _counted(rows, "macs"),
        _counted(rows, "bops"),
        _speed(rows),
    ]


def _paper_page(networks: Mapping[str, Forms]) -> list[str]:
    parts = [
        "# Plain quantization and WCC",
        "The paper's table (Finder et al., arXiv 2205.12268): bits of weights / activations, and "
        "the share of coefficients that 1x1 convolutions keep. Nothing is shrunk, as the paper "
        f"weighs plain quantization against WCC alone; every row is tuned for {PAPER_STEPS} "
        "steps (fewer in a quick run). "
        "Medians over seeds, the least and the most in brackets; speed is against float, all "
        "forms of a network in one run, on one thread.",
    ]
    for network, forms in networks.items():
        first = _first(forms)
        heads = ("", METRICS[first["metric"]][0], f"loss, {unit_of(first)}", "BOPs", "ms", "speed")
        parts += [
            f"## {NETWORKS[network].title}",
            _scored_on(first, forms),
            table(
                heads,
                [
                    (
                        title_of(name),
                        *_quality(rows),
                        _counted(rows, "bops"),
                        _milliseconds(rows),
                        _speed(rows),
                    )
                    for name, rows in forms.items()
                ],
            ),
        ]
    return [
        *parts,
        "Fewer than 8 bits are executed in 8: they save bit operations on paper and no time here.",
        "## WCC beside plain quantization",
        "By how much the form with WCC is better. At equal BOPs: than the best plain forms, "
        "interpolated in log BOPs. At equal time: than the best plain form, float among them, that "
        "is no slower. Where there is none, WCC has fewer BOPs, or takes less time, than all.",
        table(
            ("network", "form", "at equal BOPs", "at equal time"),
            [line for network, forms in networks.items() for line in _beside(network, forms)],
        ),
    ]


def _beside(network: str, forms: Forms) -> Iterator[tuple[str, ...]]:
    """By how much each form with WCC is better than plain quantization."""
    found, unit = points(forms), unit_of(_first(forms))
    plain = [point for name, point in found.items() if _kind(name) == "plain"]
    no_slower = [*plain, *(point for name, point in found.items() if name == PUBLISHED)]
    for name, point in found.items():
        if _kind(name) in SELECTIONS:
            by = at_equal_bops(point, plain), at_equal_time(point, no_slower)
            texts = (
                "-" if value is None else f"{round(value, 2) + 0.0:+.2f} {unit}" for value in by
            )
            yield NETWORKS[network].title, title_of(name), *texts


def _kind(name: str) -> str | None:
    return None if name == PUBLISHED else series(name)[0]


def _redundancy_page(networks: Mapping[str, Forms]) -> list[str]:
    parts = [
        "# Redundancy of the trained networks",
        "Half of the channels that `waveedge compress` looks at, left out in floating point, the "
        "rest refitted in closed form and not tuned: of bottlenecks (between two layers with "
        "nothing nonlinear between them), of hidden channels (between layers with a nonlinearity "
        "between them), and of both. In torch; medians over seeds, the least and the most in "
        "brackets.",
    ]
    for network, forms in networks.items():
        first = _first(forms)
        heads = ("", METRICS[first["metric"]][0], f"loss, {unit_of(first)}")
        parts += [
            f"## {NETWORKS[network].title}",
            _scored_on(first, forms),
            table(
                (*heads, "channels", "multiply-adds"),
                [(name, *_quality(rows), *_left(rows[0])) for name, rows in forms.items()],
            ),
        ]
    return parts


def _left(row: Record) -> tuple[str, str]:
    channels = f"{row['channels_before']} -> {row['channels']}"
    macs = f"{count(row['macs'])} ({row['macs_share']:.0%})"
    none = "-" if row["variant"] == next(iter(HALVES)) else "there are none"
    return channels if row["channels_before"] else none, macs


_PAGES = {
    "quality_targets": _targets_page,
    "paper_table": _paper_page,
    "redundancy": _redundancy_page,
}


def _first(forms: Forms) -> Record:
    return next(iter(forms.values()))[0]


def _scored_on(first: Record, forms: Forms) -> str:
    unit, scale, images = METRICS[first["metric"]]
    numbers = sorted({len(rows) for rows in forms.values()})
    seeds = " to ".join(map(str, numbers[:1] + numbers[1:][-1:]))
    text = f"{first['count']} test {images}, {seeds} seed{'s' * (numbers[-1] > 1)}"
    if first["baseline"] is not None:
        text += f"; without a network {scale * first['baseline']:.2f} {unit[-2:].strip()}"
    return f"{text}."


def _quality(rows: Sequence[Record]) -> tuple[str, str]:
    scale = METRICS[rows[0]["metric"]][1]
    return (
        spread(scale * row["value"] for row in rows).text(),
        spread(row["loss"] for row in rows).text(DIGITS[unit_of(rows[0])]),
    )


def _counted(rows: Sequence[Record], field: str) -> str:
    return count(round(spread(row[field] for row in rows).median))


def _milliseconds(rows: Sequence[Record]) -> str:
    timed = [row["cpu_ms"] for row in rows if "cpu_ms" in row]
    return spread(timed).text("{:.1f}") if timed else "-"


def _speed(rows: Sequence[Record]) -> str:
    """The ratio and interval of the median seed, and the extremes of all."""
    row, found = median_row(rows), figure_of(rows, "speed")
    if row is None or found is None:
        return "-"
    others = f" ({found.low:.2f} .. {found.high:.2f})" * (found.low != found.high)
    return interval(row["cpu_ratio"]) + others
