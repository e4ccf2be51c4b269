"""The arguments that the benchmarks of quality share, and what they come to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.__main__ import RESULTS, WORK
from benchmarks.networks import NETWORKS
from benchmarks.quality_tables.campaign import Options

__all__ = ["EXAMPLES", "QUICK_NETWORK", "add_arguments", "options_of"]

EXAMPLES = {network.example: network for network in NETWORKS.values() if network.example}
QUICK_NETWORK = "fashion_mnist"


def add_arguments(parser: argparse.ArgumentParser, *, quick: str, seeds: int, work: str) -> None:
    """Add them.

    Args:
        quick: what a quick run measures of its network.
        seeds: how many there are by default.
        work: folder of networks, in that of all benchmarks.
    """
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_NETWORK}, {quick}")
    parser.add_argument("--resume", action="store_true", help="keep what was measured and made")
    parser.add_argument(
        "--only", action="append", choices=list(EXAMPLES), metavar="NETWORK", help="one network"
    )
    parser.add_argument("--seeds", type=int, help=f"how many ({seeds}; quick: 1)")
    parser.add_argument("--runs", type=int, help="rounds in which forms are timed (30; quick: 3)")
    parser.add_argument(
        "--no-time", action="store_true", help="leave speed to a later --resume, on a quiet machine"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    parser.add_argument("--work", type=Path, help=f"folder of networks (build/benchmarks/{work})")
    parser.set_defaults(default_seeds=seeds, default_work=work)


def options_of(given: argparse.Namespace, order: Sequence[str] = tuple(EXAMPLES)) -> Options:
    """What they come to.

    Args:
        given: as parsed.
        order: in which networks are measured, where none is named.
    """
    quick: bool = given.quick
    # Kept apart: what a quick run makes and finds must not pass for the real thing.
    work = given.work or WORK / (f"quick/{given.default_work}" if quick else given.default_work)
    return Options(
        networks=[EXAMPLES[name] for name in given.only or ([QUICK_NETWORK] if quick else order)],
        out=given.out or (work / "results" if quick else RESULTS),
        work=work,
        seeds=given.seeds or (1 if quick else given.default_seeds),
        runs=given.runs or (3 if quick else 30),
        timed=not given.no_time,
        quick=quick,
    )
