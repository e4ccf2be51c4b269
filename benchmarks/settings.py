"""``python -m benchmarks.settings``: what onnxruntime's two settings of memory cost and give.

Each pair of settings against onnxruntime's own, on one thread: CPU time, interleaved; and the peak
of resident memory of a fresh process that loads the network and runs it three times, as a user's
would, less what it holds after loading.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markdown import interval, table
from benchmarks.networks import NETWORKS
from benchmarks.records import Record, Records, write_text
from benchmarks.variants import Workshop, title
from waveedge.console import say, size
from waveedge.runtime.backend import session_options
from waveedge.runtime.machine import describe_machine
from waveedge.runtime.memory import added_by
from waveedge.runtime.pairs import bootstrap_ratio, time_pairs

RESULTS = Path(__file__).resolve().parent / "results"
WORK = RESULTS.parents[1] / "build" / "benchmarks"
FULL_SIZE = [name for name, network in NETWORKS.items() if network.int8 and not network.example]
VARIANTS = ("published", "exact", "int8")
SETTINGS = {
    "memory pattern and reuse: onnxruntime's own": (True, True),
    "reuse": (False, True),
    "memory pattern": (True, False),
    "neither: waveedge's": (False, False),
}
"""Title -> (memory pattern, reuse of buffers)."""

FIRST = next(iter(SETTINGS))
WARMUP = 3
PROBED_RUNS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settings", description=__doc__)
    parser.add_argument("--only", action="append", choices=FULL_SIZE, metavar="NAME")
    parser.add_argument("--runs", type=int, default=30, help="pairs of runs (30)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--probe", nargs=2, metavar=("MODEL", "SETTING"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.probe:
        print(_peak(Path(given.probe[0]), given.probe[1]))
        return 0
    path: Path = given.out / "settings.json"
    path.unlink(missing_ok=True)
    records = Records(path, ("network", "variant", "setting"))
    for name in given.only or FULL_SIZE:
        workshop = Workshop(NETWORKS[name], WORK)
        for variant in VARIANTS:
            model = workshop.make(variant).model
            for setting in SETTINGS:
                say(f"{name}, {variant}: {setting}")
                row = _measure(model, setting, workshop.images[0], given.runs)
                records.add({"network": name, "variant": variant, "setting": setting, **row})
    write_text(given.out / "settings.md", _render(records.rows))
    print((given.out / "settings.md").read_text())
    return 0


def _measure(model: Path, setting: str, image: Any, runs: int) -> Record:
    probe = ["-m", "benchmarks.settings", "--probe", str(model), setting]
    child = subprocess.run([sys.executable, *probe], capture_output=True, text=True, check=True)
    row: Record = {"peak_bytes": int(child.stdout)}
    if setting != FIRST:
        sessions = [_session(model, which) for which in (FIRST, setting)]
        name = sessions[0].get_inputs()[0].name
        run = [partial(session.run, None, {name: image}) for session in sessions]
        cpu, _, _ = time_pairs(run[:1], run[1:], runs=runs, warmup=WARMUP, seed=0)
        row["cpu_ratio"] = asdict(bootstrap_ratio(cpu[:, 0], cpu[:, 1], seed=0))
    return row


def _session(model: Path, setting: str) -> Any:
    import onnxruntime

    options = session_options()
    options.enable_mem_pattern, options.enable_mem_reuse = SETTINGS[setting]
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _peak(model: Path, setting: str) -> int:
    """Bytes that running adds to what this process holds after loading."""
    session = _session(model, setting)
    value = session.get_inputs()[0]
    shape = [extent if isinstance(extent, int) else 1 for extent in value.shape]
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    return added_by(partial(session.run, None, {value.name: image}), PROBED_RUNS)[0]


def _render(rows: Sequence[Record]) -> str:
    parts = ["# Memory settings of onnxruntime"]
    for heading, cell in (("Speed by CPU time, 1 thread", _speed), ("Peak memory", _memory)):
        lines = [
            [
                f"{NETWORKS[row['network']].title}, {title(row['variant'])}",
                *(
                    cell(other)
                    for other in rows
                    if (other["network"], other["variant"]) == (row["network"], row["variant"])
                ),
            ]
            for row in rows
            if row["setting"] == FIRST
        ]
        parts += [f"## {heading}", table(("", *SETTINGS), lines)]
    parts.append(
        "Above 1 is faster than onnxruntime's own settings. Memory: peak of resident memory of a "
        f"process that runs the network {PROBED_RUNS} times, less what it holds after loading; the "
        "arena is on. Less than 1 MiB: the activations fit where weights were before onnxruntime "
        "packed them. Interleaved pairs of runs in random order, medians, 95 % bootstrap "
        f"intervals; {describe_machine().cpu}. Written by `python -m benchmarks.settings`."
    )
    return "\n\n".join(parts) + "\n"


def _speed(row: Record) -> str:
    return interval(row["cpu_ratio"]) if "cpu_ratio" in row else "1"


def _memory(row: Record) -> str:
    return size(row["peak_bytes"])


if __name__ == "__main__":
    sys.exit(main())
