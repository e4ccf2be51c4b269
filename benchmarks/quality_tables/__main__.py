"""``python -m benchmarks.quality_tables``: measure the tables of quality, or go on with them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.__main__ import RESULTS, WORK
from benchmarks.networks import NETWORKS
from benchmarks.quality_tables.measure import STAGES, Options, Tables
from benchmarks.quality_tables.pages import render, title_of
from benchmarks.quality_tables.plots import save_plot
from waveedge.console import say
from waveedge.errors import MissingDependencyError, OutputError

EXAMPLES = {network.example: network for network in NETWORKS.values() if network.example}
_QUICK = "fashion_mnist"


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality_tables",
        description="Measure how good the trained networks are when compressed. Writes JSON, "
        "Markdown and pictures; each record as soon as it is measured.",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK}, one seed, few forms, images and steps"
    )
    parser.add_argument("--resume", action="store_true", help="keep what was measured and made")
    parser.add_argument(
        "--only", action="append", choices=list(EXAMPLES), metavar="NETWORK", help="one network"
    )
    parser.add_argument(
        "--stage", action="append", choices=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}"
    )
    parser.add_argument("--seeds", type=int, help="how many (3; quick: 1)")
    parser.add_argument("--runs", type=int, help="rounds in which forms are timed (30; quick: 3)")
    parser.add_argument(
        "--no-time", action="store_true", help="leave speed to a later --resume, on a quiet machine"
    )
    parser.add_argument(
        "--merge", type=Path, metavar="FOLDER", help="only take over the records of another --out"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    parser.add_argument("--work", type=Path, help="folder of networks (build/benchmarks/quality)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status: 1 where a record holds an error."""
    options = parser()
    given = options.parse_args(arguments)
    if given.merge and not given.merge.is_dir():
        options.error(f"--merge: there is no folder {given.merge}")
    quick: bool = given.quick
    # Kept apart: what a quick run makes and finds must not pass for the real thing.
    work = given.work or WORK / ("quick/quality" if quick else "quality")
    stages = given.stage or STAGES
    tables = Tables(
        Options(
            networks=[EXAMPLES[name] for name in given.only or ([_QUICK] if quick else EXAMPLES)],
            out=given.out or (work / "results" if quick else RESULTS),
            work=work,
            seeds=given.seeds or (1 if quick else 3),
            runs=given.runs or (3 if quick else 30),
            timed=not given.no_time,
            quick=quick,
        )
    )
    try:
        if given.merge:
            tables.merge(given.merge)
        else:
            tables.begin(stages, resume=given.resume)
    except OutputError as error:
        say(f"{error.what}. {error.hint}")
        return 1
    failed = []
    for stage in stages:
        if not given.merge:
            getattr(tables, stage)()
        records = tables.records[stage]
        if not records.rows:
            continue
        print(render(stage, records, tables.options.out), flush=True)
        try:
            save_plot(stage, records, tables.options.out / f"{stage}.png")
        except MissingDependencyError as error:
            say(f"no plot: {error}")
        failed += [row for row in records.rows if "error" in row]
    for row in failed:
        say(f"failed: {row['network']} {title_of(row['variant'])}: {row['error']}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
