"""The benchmark as a loop over networks, seeds and forms; records are written as measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.networks import Network
from benchmarks.pruning.forms import Theirs, is_theirs, our_forms, their_forms
from benchmarks.pruning.page import render
from benchmarks.pruning.trial import Budget, PruningTrial
from benchmarks.quality import score
from benchmarks.quality_tables.forms import PUBLISHED, WHOLE
from benchmarks.quality_tables.judging import against_float
from benchmarks.quality_tables.timed import time_forms
from benchmarks.quality_tables.trial import checkpoint_of
from benchmarks.records import Record, Records, recorded
from benchmarks.variants import Own, on_paper
from waveedge.console import say
from waveedge.errors import WaveedgeError
from waveedge.runtime import Session

__all__ = ["KEY", "Options", "Pruning"]

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
        quick: few images.
        ours: waveedge's forms.
        theirs: torch-pruning's forms.
        budget: what torch-pruning's side may try.
    """

    networks: Sequence[Network]
    out: Path
    work: Path
    seeds: int = 1
    runs: int = 30
    timed: bool = True
    quick: bool = False
    ours: Mapping[str, Own] = field(default_factory=our_forms)
    theirs: Mapping[str, Theirs] = field(default_factory=their_forms)
    budget: Budget = field(default_factory=Budget)


class Pruning:
    """The result file, and what fills it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self.records = Records(options.out / "pruning.json", KEY)
        self._checkpoints = {one.name: checkpoint_of(one) for one in options.networks}

    def run(self, *, resume: bool) -> None:
        """Measure what is missing; unless to ``resume``, all of the chosen networks.

        Raises:
            OutputError: records that would be used or left are of another machine.
        """
        if resume:
            self.records.refuse_other_machine()
        else:
            self.records.drop(lambda row: row["network"] in self._checkpoints)
            for trial in self._trials():
                trial.forget()
        for trial in self._trials():
            for name in (PUBLISHED, *trial.own):
                self._once(trial, name)
            if self.options.timed:
                self._time(trial)
                render(self.records, self.options.out)

    def _trials(self) -> Iterator[PruningTrial]:
        options = self.options
        for network in options.networks:
            for seed in range(options.seeds):
                yield PruningTrial(
                    network,
                    options.work,
                    options.ours,
                    options.theirs,
                    seed,
                    few=options.quick,
                    budget=options.budget,
                )

    def _once(self, trial: PruningTrial, name: str) -> None:
        """Write the record of a form that is not there yet, be it of an error."""
        key = {**self._identity(trial), "variant": name}
        found = self.records.find(**key)
        if found is not None and "error" not in found:
            return
        say(f"{trial.network.name} {name} seed {trial.seed}")
        record: Record = {**key}
        with recorded(record):
            record |= self._scored(trial, name)
        self.records.add(record)
        render(self.records, self.options.out)

    def _scored(self, trial: PruningTrial, name: str) -> Record:
        made = trial.make(name)
        limit = _FEW if self.options.quick else None
        run: Callable[[Any], Any] = Session(made.path).run
        record = {**score(trial.network, run, limit=limit), **on_paper(made)}
        if name == PUBLISHED:
            return {**record, **against_float(record, record)}
        in_float = self.records.find(**self._identity(trial), variant=PUBLISHED)
        if in_float is None or "error" in in_float:
            raise WaveedgeError("there is no score of the published network to compare with")
        record |= {**against_float(record, in_float), "cpu_minutes": trial.minutes(name)}
        return {**record, **trial.told(name)} if is_theirs(name) else record

    def _time(self, trial: PruningTrial) -> None:
        title = f"{trial.network.name} seed {trial.seed}"
        time_forms(self.records, self._identity(trial), trial, WHOLE, self.options.runs, title)

    def _identity(self, trial: PruningTrial) -> Record:
        """The fields of all records of a trial; weights that were trained again have others."""
        name = trial.network.name
        return {"network": name, "seed": trial.seed, "checkpoint": self._checkpoints[name]}
