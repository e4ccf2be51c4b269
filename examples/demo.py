"""``make demo``: the main job, end to end, on a trained network and real photos.

Runs the four verbs as a user would type them, in the folder ``demo-out``, then scores the
uncompressed and the compressed networks on the six test photos, through onnxruntime, and prints
one table.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from scoring import score

from waveedge import Session
from waveedge.console import count, out, size, table

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "demo-out"
INPUT = (128, 128)  # the network's default size: the middle of each test photo
VARIANTS = (
    ("8 bits", "--bits 8"),
    ("4 bits, WCC 50 %", "--bits 4 --wcc-ratio 0.5"),
)


def waveedge(line: str, *, show: bool = True) -> str:
    """Type ``waveedge LINE`` in the demo's folder; stop the demo where it fails."""
    out.print(f"\n$ waveedge {line}", style="bold")
    done = subprocess.run(
        [sys.executable, "-m", "waveedge.cli", *line.split()],
        cwd=FOLDER,
        check=False,
        text=True,
        stdout=None if show else subprocess.PIPE,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def main() -> None:
    """Run the demo."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    shutil.copy(HERE / "super_resolution" / "model.pt", FOLDER)
    waveedge("inspect model.pt")

    rows: list[tuple[str, ...]] = []
    for title, flags in VARIANTS:
        first = not rows
        report = json.loads(waveedge(f"compress model.pt {flags} --json", show=False))
        out.print(f"wrote {report['artifact']}", highlight=False)
        waveedge("export --target ort", show=first)
        bench = json.loads(waveedge("bench --json", show=False))
        bundle = FOLDER / f"{report['artifact'].removesuffix('.safetensors')}.ort"
        if first:
            rows.append(_baseline(report, bench, bundle))
        rows.append(_row(title, report, bench, bundle))
    table(
        "\nWaveMix x2 super-resolution, the middle of 6 test photos, 128x128 -> 256x256, "
        "onnxruntime, one CPU thread",
        ("", "PSNR dB", "file", "BOPs", "feature-map bits", "latency", "speed", "peak memory"),
        rows,
    )


def _baseline(report: dict[str, Any], bench: dict[str, Any], bundle: Path) -> tuple[str, ...]:
    measured = bench["b"]
    return (
        "uncompressed, as published",
        _psnr(bundle / "published.onnx"),
        size((FOLDER / "model.pt").stat().st_size),
        count(report["bops_before"]),
        count(report["feature_bits_before"]),
        f"{measured['cpu']['median']:.1f} ms",
        "1",
        size(measured["peak_bytes"]),
    )


def _row(
    title: str, report: dict[str, Any], bench: dict[str, Any], bundle: Path
) -> tuple[str, ...]:
    measured, ratio = bench["a"], bench["cpu_ratio"]
    return (
        title,
        _psnr(bundle),
        size((FOLDER / report["artifact"]).stat().st_size),
        count(report["bops_after"]),
        count(report["feature_bits_after"]),
        f"{measured['cpu']['median']:.1f} ms",
        f"{ratio['value']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]",
        size(measured["peak_bytes"]),
    )


def _psnr(path: Path) -> str:
    session = Session(path)
    return f"{score('super_resolution', session.run, input_size=INPUT)['value']:.2f}"


if __name__ == "__main__":
    main()
