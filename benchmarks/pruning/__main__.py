"""``python -m benchmarks.pruning``: closed-form shrinking beside torch-pruning."""

from __future__ import annotations

import argparse
import sys

from benchmarks.environments import install_missing
from benchmarks.pruning.distil import RATES
from benchmarks.pruning.forms import SETTINGS, SHARES, STEPS, our_forms, their_forms, title_of
from benchmarks.pruning.measure import Pruning
from benchmarks.pruning.page import render
from benchmarks.pruning.peer import TORCH_PRUNING
from benchmarks.pruning.trial import Budget
from benchmarks.quality_tables.arguments import add_arguments, options_of
from waveedge.console import say
from waveedge.errors import OutputError

_QUICK_STEPS = 2
_QUICK_BUDGET = Budget(settings=tuple(SETTINGS)[:2], probe=_QUICK_STEPS, rates=RATES[:1])
_ORDER = ("super_resolution", "fashion_mnist", "brain_mri", "denoiser")


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pruning",
        description="Compare closed-form shrinking with torch-pruning on the trained networks. "
        "Writes pruning.json and pruning.md; each record as soon as it is measured.",
    )
    add_arguments(
        parser, quick="one share, few settings, images and steps", seeds=1, work="pruning"
    )
    parser.add_argument(
        "--share", action="append", type=float, help="of the multiply-adds (0.7, 0.5, 0.35)"
    )
    parser.add_argument(
        "--no-install", action="store_true", help="do not install torch-pruning where it is not"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status: 1 where a record holds an error."""
    given = parser().parse_args(arguments)
    quick: bool = given.quick
    shares = tuple(given.share or ((0.5,) if quick else SHARES))
    pruning = Pruning(
        options_of(given, _ORDER),
        our_forms(shares, _QUICK_STEPS if quick else STEPS[1]),
        their_forms(shares, (0, _QUICK_STEPS) if quick else STEPS),
        _QUICK_BUDGET if quick else Budget(),
    )
    if not given.no_install:
        install_missing([TORCH_PRUNING])
    try:
        pruning.run(resume=given.resume)
    except OutputError as error:
        say(f"{error.what}. {error.hint}")
        return 1
    print(render(pruning.records, pruning.options.out), flush=True)
    failed = [row for row in pruning.records.rows if "error" in row]
    for row in failed:
        say(f"failed: {row['network']} {title_of(row['variant'])}: {row['error']}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
