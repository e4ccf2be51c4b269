"""The comparison for readers: Markdown made from the records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.markdown import METRICS, conditions, interval, number, table
from benchmarks.networks import NETWORKS
from benchmarks.pruning.equal import matches
from benchmarks.pruning.forms import title_of
from benchmarks.quality_tables.forms import WHOLE
from benchmarks.quality_tables.judging import spread
from benchmarks.quality_tables.pages import DIGITS, rows_of, unit_of
from benchmarks.records import Record, Records, write_text
from waveedge.console import count

__all__ = ["render"]

_COMMAND = "python -m benchmarks.pruning"
_INTRODUCTION = (
    "Channels left out by `waveedge compress --bits 8 --macs R`, in closed form, beside those that "
    "torch-pruning leaves out (DepGraph). Both sides are asked for the same shares of the "
    "multiply-adds, then get the same exact rewrites and 8 bits, and run on onnxruntime. Both are "
    "tuned towards the unpruned network on the same calibration images, without labels: waveedge "
    "200 steps through the rounding, torch-pruning 200 or 1,000 steps in floating point, after the "
    "statistics of its batch norms were taken anew. torch-pruning has the importance and the "
    "ranking (channels of all layers, or of each alone) that do best on held-out images after 50 "
    "steps, and the best of three rates; its CPU minutes are without that search. Speed is against "
    "8 bits not shrunk, all forms of a network in one run, on one thread."
)
_LIMITS = (
    "torch-pruning takes what it does not know for an operation that keeps channels apart, which "
    "a wavelet transform does not. While it chooses, WaveMix's Haar transforms are therefore "
    "written as convolutions, and WTConv layers have a pruner of their own; the pruned network is "
    "in the published form again. `as it is` is the same without that."
)


def render(records: Records, out: Path) -> str:
    """Write ``pruning.md`` beside the records, and return its text."""
    parts = ["# Fewer channels: closed form or DepGraph", _INTRODUCTION, _LIMITS]
    for network in dict.fromkeys(row["network"] for row in records.rows):
        parts += _network(network, records.rows)
    failed = [
        f"* {NETWORKS[row['network']].title}, {title_of(row['variant'])}, seed {row['seed']}: "
        f"{row['error']}"
        for row in records.rows
        if "error" in row
    ]
    parts += ["Failed:", "\n".join(failed)] if failed else []
    text = "\n\n".join([*parts, conditions(records, _COMMAND)]) + "\n"
    write_text(out / "pruning.md", text)
    return text


def _network(network: str, rows: Sequence[Record]) -> Iterator[str]:
    forms = rows_of(rows, network)
    if not forms:
        return
    first = next(iter(forms.values()))[0]
    unit, scale, images = METRICS[first["metric"]]
    whole = forms[WHOLE][0]["macs"] if WHOLE in forms else None
    yield f"## {NETWORKS[network].title}"
    yield f"{first['count']} test {images}. Medians over seeds, the least and the most in brackets."
    heads = ("", unit, f"loss, {unit_of(first)}", "multiply-adds", "published", "CPU minutes")
    lines = [
        (
            title_of(name),
            spread(scale * row["value"] for row in made).text(),
            spread(row["loss"] for row in made).text(DIGITS[unit_of(first)]),
            _work(made, whole),
            _counted(made, "published_macs"),
            _minutes(made),
            _speed(made),
        )
        for name, made in forms.items()
    ]
    yield table((*heads, "speed"), lines)
    yield from _equal(network, rows)
    yield from _settings(forms.values())


def _work(rows: Sequence[Record], whole: int | None) -> str:
    macs = spread(row["macs"] for row in rows).median
    return count(round(macs)) + (f" ({macs / whole:.0%})" if whole else "")


def _counted(rows: Sequence[Record], field: str) -> str:
    found = [row[field] for row in rows if field in row]
    return count(round(spread(found).median)) if found else "-"


def _minutes(rows: Sequence[Record]) -> str:
    found = [row["cpu_minutes"] for row in rows if "cpu_minutes" in row]
    return spread(found).text("{:.1f}") if found else "-"


def _speed(rows: Sequence[Record]) -> str:
    timed = [row for row in rows if "cpu_ratio" in row]
    return ", ".join(interval(row["cpu_ratio"]) for row in timed) or "-"


def _equal(network: str, rows: Sequence[Record]) -> Iterator[str]:
    """For each form the fastest of the other side that is no worse, where they were timed."""
    for ours, who in ((True, "torch-pruning's"), (False, "waveedge's")):
        lines = []
        for seed in dict.fromkeys(row["seed"] for row in rows):
            mine = [row for row in rows if row["network"] == network and row["seed"] == seed]
            for match in matches(mine, ours=ours):
                other = "none" if match.other is None else title_of(match.other["variant"])
                title = title_of(match.form["variant"])
                lines.append((title, str(seed), other, number(match.ratio)))
        if lines:
            heads = ("form", "seed", f"{who} fastest that is no worse", "times as fast as it")
            yield table(heads, lines)


def _settings(forms: Iterable[Sequence[Record]]) -> Iterator[str]:
    """What torch-pruning's settings came to, on held-out images."""
    lines: dict[tuple[float, int], tuple[str, ...]] = {}
    names: list[str] = []
    for rows in forms:
        for row in rows:
            if "setting" in row:
                choice = row["setting"]
                tried = choice["tried"]
                names = names or list(tried)
                cells = (_error(tried.get(name, "-")) for name in names)
                lines[choice["share"], row["seed"]] = (
                    f"{choice['share']:.0%}",
                    str(row["seed"]),
                    f"{choice['setting']}, rate {choice['rate']:g}",
                    f"{choice['search_minutes']:.1f}",
                    *cells,
                )
    if lines:
        yield "Errors of torch-pruning's settings after 50 steps, in % of the output's power:"
        yield table(("share", "seed", "best", "CPU minutes of all", *names), list(lines.values()))


def _error(found: float | str) -> str:
    return found if isinstance(found, str) else f"{100 * found:.2f}"
