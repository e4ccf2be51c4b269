"""``python -m benchmarks.quality_tables``: measure the tables of quality, or go on with them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.quality_tables.arguments import add_arguments, options_of
from benchmarks.quality_tables.measure import STAGES, Tables
from benchmarks.quality_tables.pages import render, title_of
from benchmarks.quality_tables.plots import save_plot
from waveedge.console import say
from waveedge.errors import MissingDependencyError, OutputError


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality_tables",
        description="Measure how good the trained networks are when compressed. Writes JSON, "
        "Markdown and pictures; each record as soon as it is measured.",
    )
    add_arguments(parser, quick="one seed, few forms, images and steps", seeds=3, work="quality")
    parser.add_argument(
        "--stage", action="append", choices=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}"
    )
    parser.add_argument(
        "--merge", type=Path, metavar="FOLDER", help="only take over the records of another --out"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status: 1 where a record holds an error."""
    options = parser()
    given = options.parse_args(arguments)
    if given.merge and not given.merge.is_dir():
        options.error(f"--merge: there is no folder {given.merge}")
    stages = given.stage or STAGES
    tables = Tables(options_of(given))
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
