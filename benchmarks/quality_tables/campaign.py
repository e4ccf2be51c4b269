"""What every benchmark of quality does: forms of trials are scored, a record each, and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.networks import Network
from benchmarks.quality import score
from benchmarks.quality_tables.forms import PUBLISHED
from benchmarks.quality_tables.judging import against_float
from benchmarks.quality_tables.timed import time_forms
from benchmarks.quality_tables.trial import Trial, checkpoint_of
from benchmarks.records import Record, Records, recorded
from benchmarks.variants import on_paper
from waveedge.console import say
from waveedge.errors import WaveedgeError
from waveedge.runtime import Session

__all__ = ["KEY", "Campaign", "Options"]

KEY = ("network", "variant", "seed")
_FEW = 200
"""Images of a test set that a quick run scores on."""


@dataclass(frozen=True)
class Options:
    """What to measure, and where to.

    Attributes:
        networks: in the order to measure them.
        out: folder of the result files.
        work: folder of compressed and exported networks.
        seeds: 0, 1, ... so many.
        runs: rounds of a contest.
        timed: whether forms are timed.
        quick: few images; what else is less is each benchmark's own.
    """

    networks: Sequence[Network]
    out: Path
    work: Path
    seeds: int = 3
    runs: int = 30
    timed: bool = True
    quick: bool = False


class Campaign:
    """Measures the forms of trials; each record is written as soon as it is there."""

    def __init__(self, options: Options) -> None:
        self.options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self._checkpoints = {one.name: checkpoint_of(one) for one in options.networks}

    def file(self, name: str) -> Records:
        """The records of one result file."""
        return Records(self.options.out / f"{name}.json", KEY)

    def begin_file(self, records: Records, trials: Iterable[Trial], *, resume: bool) -> None:
        """Forget what was measured and made of the chosen networks, unless to ``resume``.

        Raises:
            OutputError: records that would be used or left are of another machine.
        """
        if resume:
            records.refuse_other_machine()
            return
        records.drop(lambda row: row["network"] in self._checkpoints)
        for trial in trials:
            trial.forget()

    def form(self, records: Records, trial: Trial, name: str) -> Record:
        """Score an exported form, against the float network, which must have its score."""
        return self.once(records, trial, name, partial(self._scored, records, trial, name))

    def once(
        self, records: Records, trial: Trial, name: str, measured: Callable[[], Record]
    ) -> Record:
        """Return the record that is there, or measure and write one, be it of an error."""
        key = {**self._identity(trial), "variant": name}
        found = records.find(**key)
        if found is not None and "error" not in found:
            return found
        say(f"{records.path.stem}: {trial.network.name} {name} seed {trial.seed}")
        record: Record = {**key}
        with recorded(record):
            record |= measured()
        return records.add(record)

    def score(self, trial: Trial, run: Callable[[Any], Any]) -> Record:
        """The quality of what ``run`` computes, on the test set."""
        return score(trial.network, run, limit=_FEW if self.options.quick else None)

    def found(self, records: Records, trial: Trial, name: str) -> Record:
        """The record of another form of the same trial.

        Raises:
            WaveedgeError: there is none, or that of an error.
        """
        found = records.find(**self._identity(trial), variant=name)
        if found is None or "error" in found:
            raise WaveedgeError(f"there is no score of the {name} network to compare with")
        return found

    def time(self, records: Records, trial: Trial, base: str) -> None:
        """Let all forms of a trial take turns; see :func:`.timed.time_forms`."""
        title = f"{records.path.stem}: {trial.network.name} seed {trial.seed}"
        time_forms(records, self._identity(trial), trial, base, self.options.runs, title)

    def _scored(self, records: Records, trial: Trial, name: str) -> Record:
        made = trial.make(name)
        record = {**self.score(trial, Session(made.path).run), **on_paper(made)}
        if name == PUBLISHED:
            return {**record, **against_float(record, record)}
        in_float = self.found(records, trial, PUBLISHED)
        record |= {**against_float(record, in_float), "cpu_minutes": trial.minutes(name)}
        return {**record, **trial.told(name)}

    def _identity(self, trial: Trial) -> Record:
        """The fields of all records of a trial; weights that were trained again have others."""
        name = trial.network.name
        return {"network": name, "seed": trial.seed, "checkpoint": self._checkpoints[name]}
