"""Result files for readers: Markdown made from the records alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS
from benchmarks.peers import PEERS
from benchmarks.records import Record, Records, write_text
from benchmarks.trials import EQUALLY_GOOD_DB
from benchmarks.variants import OWN, TITLES
from waveedge.console import count, size

__all__ = ["interval", "render", "table"]

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
    text = "\n\n".join([*parts, _conditions(out)]) + "\n"
    write_text(out / f"{stage}.md", text)
    return text


def _conditions(out: Path) -> str:
    environment = json.loads((out / "environment.json").read_text())
    machine = environment["machine"]
    isa = ", ".join(name for name in machine["isa"] if "vnni" in name or "amx" in name)
    versions = ", ".join(f"{name} {text}" for name, text in environment["versions"].items())
    return (
        f"Measured on {machine['cpu']}, {machine['cores']} cores{f' ({isa})' if isa else ''}, "
        f"{machine['system']}, Python {machine['python']}; {versions}. "
        f"{environment['runs']} interleaved pairs of runs in random order, medians, 95 % bootstrap "
        "intervals. Written by `python -m benchmarks`."
    )


def _speed(rows: Sequence[Record]) -> list[str]:
    threads = sorted({row["threads"] for row in rows})
    one = [row for row in rows if row["threads"] == threads[0]] if threads else []
    parts = [
        "# Speed and memory against the published export",
        "Above 1 is faster, or smaller, than the network exported as it was published, on the same "
        "onnxruntime with the same settings. Full-size networks have random weights: their "
        "signal-to-noise ratios compare variants with each other and nothing else.",
    ]
    for number in threads:
        of_number = [row for row in rows if row["threads"] == number]
        label = f"{number} thread{'s' if number > 1 else ''}"
        clocks = (
            [("CPU", "cpu_ratio")]
            if number == 1
            else [("CPU", "cpu_ratio"), ("wall", "wall_ratio")]
        )
        for clock, field in clocks:
            parts += [
                f"## Speed by {clock} time, {label}",
                _grid(of_number, partial(_ratio, field)),
            ]
    parts += [
        "## int8 against the best of the quantizing peers, CPU time",
        table(
            ("network", "threads", "waveedge w8a8", "best peer", "its speed", "times faster"),
            _against_peers(rows),
        ),
        "## Peak activation memory, published / variant",
        _grid(one, lambda row: _number(row["peak_ratio"])),
        "## Signal-to-noise ratio to the published output on held-out images, dB",
        _grid(one, lambda row: "exact" if row["snr_db"] is None else f"{row['snr_db']:.1f}"),
        "## Settings of the peers",
        f"Each setting was tried; of those within {EQUALLY_GOOD_DB:g} dB of the most accurate, the "
        "fastest was kept.",
        table(("network", "peer", "kept", "tried: speed, dB", "versions"), _settings(one)),
    ]
    return parts


def _against_peers(rows: Sequence[Record]) -> list[tuple[str, ...]]:
    quantizing = [peer.name for peer in PEERS if peer.int8]
    found: list[tuple[str, ...]] = []
    for row in rows:
        if row["variant"] != "int8" or "error" in row:
            continue
        peers = [
            other
            for other in rows
            if other["variant"] in quantizing
            and (other["network"], other["threads"]) == (row["network"], row["threads"])
            and "error" not in other
        ]
        if not peers:
            continue
        best = max(peers, key=lambda other: float(other["cpu_ratio"]["value"]))
        ours, theirs = row["cpu_ratio"]["value"], best["cpu_ratio"]["value"]
        found.append(
            (
                _title(row),
                str(row["threads"]),
                f"{ours:.2f} ({_db(row)})",
                TITLES[best["variant"]],
                f"{theirs:.2f} ({_db(best)})",
                f"{ours / theirs:.1f}",
            )
        )
    return found


def _db(row: Record) -> str:
    return "exact" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB"


def _settings(rows: Iterable[Record]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for row in rows:
        settings = row.get("settings") or {}
        if "chosen" not in settings:
            continue
        tried = [
            f"{trial['setting']}: "
            + (trial.get("error") or f"{trial['cpu_ratio']:.2f}, {_number(trial['snr_db'])}")
            for trial in settings["tried"]
        ]
        versions = [f"{name} {text}" for name, text in row["versions"].items()]
        peer = TITLES[row["variant"]]
        found.append((_title(row), peer, settings["chosen"], "; ".join(tried), ", ".join(versions)))
    return found


def _side_by_side(rows: Sequence[Record]) -> list[str]:
    parts = ["# Trained networks, side by side"]
    for network in dict.fromkeys(row["network"] for row in rows):
        of_network = [row for row in rows if row["network"] == network and "error" not in row]
        if not of_network:
            continue
        first = of_network[0]
        accuracy = first["metric"] == "accuracy"
        unit = "accuracy, %" if accuracy else "PSNR, dB"
        scored = f"{first['count']} test {'images' if accuracy else 'photos'}"
        if first["baseline"] is not None:
            scored += f"; without a network {first['baseline']:.2f} dB"
        heads = (
            *("", unit, "file", "BOPs", "feature-map bits", "speed (CPU, 1 thread)"),
            *("peak memory", "asked bits", "layers executed in int8 / float"),
        )
        parts += [
            f"## {NETWORKS[network].title}",
            f"{scored}.",
            table(heads, [_whole(row, accuracy) for row in of_network]),
        ]
    return [
        *parts,
        "The file is what stores the network: the checkpoint, waveedge's artifact, or for the "
        "rewritten form and for peers the ONNX model. Layers are nodes with weights of the graph "
        "that onnxruntime executes; fewer than 8 bits execute in 8.",
    ]


def _whole(row: Record, accuracy: bool) -> tuple[str, ...]:
    timed = "cpu_ratio" in row
    memory = (
        f"{size(row['peak_bytes'])} ({row['peak_ratio']:.2f}x)"
        if timed and row["peak_bytes"]
        else "-"
    )
    return (
        TITLES[row["variant"]],
        f"{100 * row['value']:.2f}" if accuracy else f"{row['value']:.2f}",
        size(row["artifact_bytes"]),
        count(row["bops"]),
        count(row["feature_bits"]),
        interval(row["cpu_ratio"]) if timed else "1",
        memory,
        row["bits"]["requested"],
        f"{row['bits']['int8']} / {row['bits']['float']}",
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
            ("threads", "float32 MatMul, G/s", "int8 QLinearMatMul, G/s", "copy, GB/s"),
            [
                (
                    str(peak["threads"]),
                    f"{peak['float32_gmacs']:.1f}",
                    f"{peak['int8_gmacs']:.1f}",
                    f"{peak['copy_gb']:.1f}",
                )
                for peak in peaks
            ],
        ),
        "Multiply-adds of each form as it is executed. Least bytes: input, output and weights, "
        "each once. The roofline is the larger of multiply-adds at the peak rate and least bytes "
        "at copy bandwidth. The last column: copying alone, if every layer read its input from "
        "memory and wrote its output there, as a share of the time. Caches can make it less.",
        table(
            heads,
            [
                (
                    _title(row),
                    TITLES[row["variant"]],
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
                    TITLES[row["variant"]],
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


def _tensorrt_rtx(rows: Sequence[Record]) -> list[str]:
    return [
        "# TensorRT-RTX builds, without a GPU",
        "One engine for SM 8.6 and 8.9 each, from the same rewritten networks. A proxy: that it "
        "builds, and into how many kernels, tells that the rewrites carry over; times need a GPU.",
        table(
            ("network", "form", "encoding", "built", "engine", "kernels", "of them int8"),
            [
                (
                    _title(row),
                    TITLES[row["variant"]],
                    row["encoding"],
                    "yes" if row["built"] else f"no: {'; '.join(row['errors'])[:200]}",
                    size(row["engine_bytes"]) if row["built"] else "-",
                    str(row["kernels"] or "-"),
                    str(row["int8_kernels"]),
                )
                for row in rows
                if "error" not in row
            ],
        ),
    ]


_PAGES = {"speed": _speed, "side_by_side": _side_by_side, "tensorrt_rtx": _tensorrt_rtx}


def _grid(rows: Sequence[Record], figure: Figure) -> str:
    """Networks down, variants across."""
    present = {row["variant"] for row in rows}
    variants = [name for name in (*OWN, *(peer.name for peer in PEERS)) if name in present]
    cells = {
        (row["network"], row["variant"]): "failed" if "error" in row else figure(row)
        for row in rows
    }
    return table(
        ("", *(TITLES[name] for name in variants)),
        [
            (NETWORKS[network].title, *(cells.get((network, name), "") for name in variants))
            for network in dict.fromkeys(row["network"] for row in rows)
        ],
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _title(row: Record) -> str:
    return NETWORKS[row["network"]].title


def _ratio(field: str, row: Record) -> str:
    return interval(row[field])


def interval(ratio: Mapping[str, Any]) -> str:
    """A ratio with its 95 % interval."""
    return f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
