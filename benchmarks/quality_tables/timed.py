"""The speed of a trial's forms: all of them in one contest, written into their records."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from benchmarks.contest import contest
from benchmarks.quality_tables.trial import Trial
from benchmarks.records import Record, Records
from benchmarks.runners import InProcess
from benchmarks.timing import WARMUP
from waveedge.console import say
from waveedge.runtime.pairs import bootstrap_ratio

__all__ = ["time_forms"]


def time_forms(
    records: Records, identity: Record, trial: Trial, base: str, runs: int, title: str
) -> None:
    """Let all forms take turns on one thread, unless every one of them was timed before.

    Args:
        records: that are completed.
        identity: fields that the trial's records have in common.
        trial: makes the forms.
        base: the form that speed is against; without it nothing is timed.
        runs: rounds of the contest.
        title: what is said while it lasts, before the number of forms.
    """
    rows = [row for row in records.rows if identity.items() <= row.items() and "error" not in row]
    if all("cpu_ratio" in row for row in rows) or base not in {row["variant"] for row in rows}:
        return
    say(f"{title}, speed of {len(rows)} forms")
    runners = {row["variant"]: InProcess(trial.make(row["variant"]).path) for row in rows}
    times = contest(runners, trial.images, rounds=runs, warmup=min(WARMUP, runs), seed=0)
    for row in rows:
        cpu = times[row["variant"]]
        ratio = asdict(bootstrap_ratio(times[base], cpu, seed=0))
        timed = {"threads": 1, "cpu_ms": float(np.median(cpu)), "cpu_ratio": ratio}
        records.add({**row, **timed, "runs": runs})
