"""``python -m benchmarks``: measure every table again, or go on where a run was stopped."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.environments import install_missing
from benchmarks.networks import NETWORKS, QUICK
from benchmarks.peers import ENVIRONMENTS, is_peer
from benchmarks.plot import save_plot
from benchmarks.stages import STAGES, Bench, Options
from benchmarks.tables import render
from waveedge.console import say
from waveedge.errors import MissingDependencyError, OutputError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "build" / "benchmarks"


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure waveedge and its peers against the network exported as published. "
        "Writes JSON, Markdown and a plot; each record as soon as it is measured.",
        epilog="Installs missing peers first, into environments .venv-peers-NAME.",
    )
    parser.add_argument("--quick", action="store_true", help="two networks, five runs, one thread")
    parser.add_argument("--resume", action="store_true", help="keep what was measured and made")
    parser.add_argument(
        "--only", action="append", choices=list(NETWORKS), metavar="NAME", help="one network"
    )
    parser.add_argument(
        "--stage", action="append", choices=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}"
    )
    parser.add_argument("--runs", type=int, help="pairs of runs a measurement (30; quick: 5)")
    parser.add_argument("--no-install", action="store_true", help="do without missing peers")
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    parser.add_argument("--work", type=Path, help="folder of exported networks (build/benchmarks)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status: 1 where a record holds an error."""
    given = parser().parse_args(arguments)
    quick: bool = given.quick
    # Kept apart: a quick run tries less, and its files and figures must not pass for others.
    work = given.work or (WORK / "quick" if quick else WORK)
    names = given.only or (QUICK if quick else list(NETWORKS))
    stages = given.stage or STAGES
    options = Options(
        networks=[NETWORKS[name] for name in names],
        out=given.out or (work / "results" if quick else RESULTS),
        work=work,
        # More threads than cores measure the scheduler.
        threads=(1,) if quick else tuple(sorted({1, min(2, os.cpu_count() or 1)})),
        runs=given.runs or (5 if quick else 30),
        quick=quick,
    )
    if not given.no_install and "peers" in stages:
        install_missing(ENVIRONMENTS.values())
    bench = Bench(options)
    try:
        bench.begin(stages, resume=given.resume)
    except OutputError as error:
        say(f"{error.what}. {error.hint}")
        return 1
    for stage in stages:
        getattr(bench, stage)()
        print(render(stage, bench.records, options.out), flush=True)
    try:
        save_plot(bench.records["speed"].rows, options.out / "speed.png")
    except MissingDependencyError as error:
        say(f"no plot: {error}")
    failed = [
        row
        for stage in stages
        for row in bench.records[stage].rows
        if "error" in row and not is_peer(row["variant"])
    ]
    for row in failed:
        say(f"failed: {row['network']} {row['variant']}: {row['error']}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
