"""``python -m benchmarks.pruning``: closed-form shrinking beside torch-pruning."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.__main__ import RESULTS, WORK
from benchmarks.environments import install_missing
from benchmarks.pruning.distil import RATES
from benchmarks.pruning.forms import SETTINGS, SHARES, STEPS, our_forms, their_forms, title_of
from benchmarks.pruning.measure import Options, Pruning
from benchmarks.pruning.page import render
from benchmarks.pruning.peer import TORCH_PRUNING
from benchmarks.pruning.trial import Budget
from benchmarks.quality_tables.__main__ import EXAMPLES
from waveedge.console import say
from waveedge.errors import OutputError

_QUICK = "fashion_mnist"
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
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK}, one share, few settings, images and steps"
    )
    parser.add_argument("--resume", action="store_true", help="keep what was measured and made")
    parser.add_argument(
        "--only", action="append", choices=_ORDER, metavar="NETWORK", help="one network"
    )
    parser.add_argument(
        "--share", action="append", type=float, help="of the multiply-adds (0.7, 0.5, 0.35)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many (1)")
    parser.add_argument("--runs", type=int, help="rounds in which forms are timed (30; quick: 3)")
    parser.add_argument(
        "--no-time", action="store_true", help="leave speed to a later --resume, on a quiet machine"
    )
    parser.add_argument(
        "--no-install", action="store_true", help="do not install torch-pruning where it is not"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    parser.add_argument("--work", type=Path, help="folder of networks (build/benchmarks/pruning)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status: 1 where a record holds an error."""
    given = parser().parse_args(arguments)
    quick: bool = given.quick
    # Kept apart: what a quick run makes and finds must not pass for the real thing.
    work = given.work or WORK / ("quick/pruning" if quick else "pruning")
    shares = tuple(given.share or ((0.5,) if quick else SHARES))
    options = Options(
        networks=[EXAMPLES[name] for name in given.only or ([_QUICK] if quick else _ORDER)],
        out=given.out or (work / "results" if quick else RESULTS),
        work=work,
        seeds=given.seeds,
        runs=given.runs or (3 if quick else 30),
        timed=not given.no_time,
        quick=quick,
        ours=our_forms(shares, _QUICK_STEPS if quick else STEPS[1]),
        theirs=their_forms(shares, (0, _QUICK_STEPS) if quick else STEPS),
        budget=_QUICK_BUDGET if quick else Budget(),
    )
    if not given.no_install:
        install_missing([TORCH_PRUNING])
    pruning = Pruning(options)
    try:
        pruning.run(resume=given.resume)
    except OutputError as error:
        say(f"{error.what}. {error.hint}")
        return 1
    print(render(pruning.records, options.out), flush=True)
    failed = [row for row in pruning.records.rows if "error" in row]
    for row in failed:
        say(f"failed: {row['network']} {title_of(row['variant'])}: {row['error']}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
