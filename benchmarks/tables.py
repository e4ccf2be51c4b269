"""Result files for readers: Markdown made from the records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.choices import EQUALLY_GOOD_DB
from benchmarks.engines import ENGINES
from benchmarks.markdown import METRICS, conditions, decibels, interval, number, table
from benchmarks.networks import NETWORKS
from benchmarks.peer_tables import peers_page
from benchmarks.records import Record, Records, write_text
from benchmarks.variants import OWN, title
from waveedge.console import count, size

__all__ = ["render"]

TOP_OPERATORS = 4

Figure = Callable[[Record], str]


def render(stage: str, records: Mapping[str, Records], out: Path) -> str:
    """Write ``STAGE.md`` beside the records of a stage, and return its text."""
    rows = records[stage].rows
    parts = _PAGES[stage](rows) if stage != "roofline" else _roofline(rows, records["peaks"].rows)
    failed = [
        f"* {row['network']}, {row['variant']}: {row['error']}" for row in rows if "error" in row
    ]
    parts = [*parts, *(["Failed:", "\n".join(dict.fromkeys(failed))] if failed else [])]
    text = "\n\n".join([*parts, conditions(records[stage], "python -m benchmarks")]) + "\n"
    write_text(out / f"{stage}.md", text)
    return text


def _speed(rows: Sequence[Record]) -> list[str]:
    threads = sorted({row["threads"] for row in rows})
    one = [row for row in rows if row["threads"] == threads[0]] if threads else []
    parts = [
        "# Speed and memory against the published export",
        "Above 1 is faster, or smaller, than the network exported as it was published, on "
        "onnxruntime with the same settings. Full-size networks have random weights: their "
        "signal-to-noise ratios compare variants with each other and nothing else.",
    ]
    for used in threads:
        of_number = [row for row in rows if row["threads"] == used]
        label = f"{used} thread{'s' if used > 1 else ''}"
        clocks = (
            [("CPU", "cpu_ratio")] if used == 1 else [("CPU", "cpu_ratio"), ("wall", "wall_ratio")]
        )
        for clock, field in clocks:
            parts += [
                f"## Speed by {clock} time, {label}",
                _grid(of_number, partial(_ratio, field)),
            ]
    parts += [
        "## Peak activation memory, published / variant",
        _grid(one, lambda row: number(row["peak_ratio"])),
        "## Signal-to-noise ratio to the published output on held-out images",
        _grid(one, decibels),
    ]
    return parts


def _side_by_side(rows: Sequence[Record]) -> list[str]:
    parts = ["# Trained networks, side by side"]
    for network in dict.fromkeys(row["network"] for row in rows):
        of_network = [row for row in rows if row["network"] == network and "error" not in row]
        if not of_network:
            continue
        first = of_network[0]
        unit, scale, images = METRICS[first["metric"]]
        scored = f"{first['count']} test {images}"
        if first["baseline"] is not None:
            scored += f"; without a network {scale * first['baseline']:.2f} {unit[-2:].strip()}"
        heads = (
            *("", unit, "file", "BOPs", "feature-map bits", "speed (CPU, 1 thread)"),
            *("peak memory", "asked bits", "layers executed in int8 / float"),
        )
        parts += [
            f"## {NETWORKS[network].title}",
            f"{scored}.",
            table(heads, [_whole(row, scale) for row in of_network]),
        ]
    return [
        *parts,
        "The file is what stores the network: the checkpoint, waveedge's artifact, or for the "
        "rewritten form and for peers the ONNX model. Layers are nodes with weights of the graph "
        "that the runtime executes; fewer than 8 bits execute in 8. Of a peer, the best of its "
        f"settings: the fastest of those within {EQUALLY_GOOD_DB:g} dB of its most accurate one.",
    ]


def _whole(row: Record, scale: int) -> tuple[str, ...]:
    timed = "cpu_ratio" in row
    memory = (
        f"{size(row['peak_bytes'])} ({row['peak_ratio']:.2f}x)" if row.get("peak_bytes") else "-"
    )
    return (
        title(row["variant"]),
        f"{scale * row['value']:.2f}",
        size(row["artifact_bytes"]),
        count(row["bops"]) if "bops" in row else "-",
        count(row["feature_bits"]) if "bops" in row else "-",
        interval(row["cpu_ratio"]) if timed else "1",
        memory,
        row["bits"]["requested"],
        "-" if row["bits"]["int8"] is None else f"{row['bits']['int8']} / {row['bits']['float']}",
    )


def _roofline(rows: Sequence[Record], peaks: Sequence[Record]) -> list[str]:
    good = [row for row in rows if "error" not in row]
    heads = (
        *("network", "form", "multiply-adds", "least bytes", "bytes layer by layer"),
        *("wall time", "rate, G/s", "roofline reached", "copying layer by layer"),
    )
    return [
        "# Roofline",
        table(
            (
                *("threads", "float32, G/s", "int8, G/s", "int8 instructions"),
                *("float32 MatMul, G/s", "int8 QLinearMatMul, G/s", "copy, GB/s"),
            ),
            [
                (
                    str(peak["threads"]),
                    f"{peak['float32_gmacs']:.1f}",
                    f"{peak['int8_gmacs']:.1f}",
                    peak["int8_instructions"] or "none: the library's rates",
                    f"{peak['float32_library_gmacs']:.1f}",
                    f"{peak['int8_library_gmacs']:.1f}",
                    f"{peak['copy_gb']:.1f}",
                )
                for peak in peaks
            ],
        ),
        "10^9 multiply-adds a second: first on registers alone (`benchmarks/peaks.c`), which the "
        "roof is made of, then as a matrix product reaches through onnxruntime.",
        "Multiply-adds of each form as it is executed. Least bytes: input, output and weights, "
        "each once. The roofline is the larger of multiply-adds at the peak rate and least bytes "
        "at copy bandwidth. The last column: copying alone, if every layer read its input from "
        "memory and wrote its output there, as a share of the time. Caches can make it less.",
        table(
            heads,
            [
                (
                    _title(row),
                    title(row["variant"]),
                    count(row["macs"]),
                    size(row["minimal_bytes"]),
                    size(row["layer_bytes"]),
                    f"{row['wall_ms']:.1f} ms",
                    f"{row['gmacs']:.1f}",
                    f"{row['roofline_share']:.0%}",
                    f"{row['copy_share']:.0%}",
                )
                for row in good
            ],
        ),
        "## What holds it back now: time by operator, one thread",
        table(
            ("network", "form", "operators of the optimised graph", "in integer operators"),
            [
                (
                    _title(row),
                    title(row["variant"]),
                    ", ".join(
                        f"{one['operator']} {one['share']:.0%}"
                        for one in row["operators"][:TOP_OPERATORS]
                    ),
                    f"{row['integer_share']:.0%}",
                )
                for row in good
            ],
        ),
    ]


def _cell(text: str) -> str:
    """The beginning of a text, as a cell of a table in Markdown holds it."""
    return text[:160].replace("|", "\\|")


def _tensorrt_rtx(rows: Sequence[Record]) -> list[str]:
    return [
        "# TensorRT-RTX builds, without a GPU",
        "One engine for SM 8.6 and 8.9 each; exact and 8-bit forms by a GPU's prices. "
        "A proxy: that it builds, and into how many launches, tells that the forms carry over. The "
        "rank is launches at 3 us and what they read and write at 102 GB/s, as data sheets of a "
        "Jetson Orin NX have it: it compares forms, and is no time. TensorRT-RTX never fuses a "
        "rounding into an int8 convolution, and enterprise TensorRT does.",
        table(
            ("network", "form", "built", "engine", "launches", "of them int8", "moved", "rank"),
            [
                (
                    _title(row),
                    ENGINES[row["variant"]].title,
                    "yes" if row["built"] else f"no: {_cell('; '.join(row['errors']))}",
                    size(row["engine_bytes"]) if row["built"] else "-",
                    str(row["kernels"] or "-"),
                    str(row["int8_kernels"]),
                    f"{row['moved_bytes'] / 1e6:.1f} MB" if row["built"] else "-",
                    f"{row['rank_ms']:.2f}" if row["built"] else "-",
                )
                for row in rows
                if "error" not in row
            ],
        ),
    ]


_PAGES = {
    "speed": _speed,
    "peers": peers_page,
    "side_by_side": _side_by_side,
    "tensorrt_rtx": _tensorrt_rtx,
}


def _grid(rows: Sequence[Record], figure: Figure) -> str:
    """Networks down, variants across."""
    present = {row["variant"] for row in rows}
    variants = [name for name in OWN if name in present]
    cells = {
        (row["network"], row["variant"]): "failed" if "error" in row else figure(row)
        for row in rows
    }
    return table(
        ("", *(title(name) for name in variants)),
        [
            (NETWORKS[network].title, *(cells.get((network, name), "") for name in variants))
            for network in dict.fromkeys(row["network"] for row in rows)
        ],
    )


def _title(row: Record) -> str:
    return NETWORKS[row["network"]].title


def _ratio(field: str, row: Record) -> str:
    return interval(row[field])
