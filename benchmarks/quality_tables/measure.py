"""The three tables, each a loop over networks and seeds; records are written as measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.networks import Network
from benchmarks.quality import score
from benchmarks.quality_tables.forms import PUBLISHED, WHOLE, paper_forms, typed_forms
from benchmarks.quality_tables.judging import against_float
from benchmarks.quality_tables.redundancy import AS_IT_IS, HALVES, Halving, in_torch
from benchmarks.quality_tables.timed import time_forms
from benchmarks.quality_tables.trial import Trial, checkpoint_of
from benchmarks.records import Record, Records, recorded
from benchmarks.variants import Own, on_paper
from waveedge.console import say
from waveedge.errors import WaveedgeError
from waveedge.runtime import Session

__all__ = ["KEY", "STAGES", "Options", "Tables"]

STAGES = ("quality_targets", "paper_table", "redundancy")
KEY = ("network", "variant", "seed")

_PAPER = ("super_resolution", "denoiser")
"""The examples that make images of images, as most of the paper's networks do."""
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
        quick: few forms, images and steps of tuning; the paper's table of any network.
    """

    networks: Sequence[Network]
    out: Path
    work: Path
    seeds: int = 3
    runs: int = 30
    timed: bool = True
    quick: bool = False


class Tables:
    """Result files and the stages that fill them; see :data:`STAGES`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        options.out.mkdir(parents=True, exist_ok=True)
        self.records = {stage: Records(options.out / f"{stage}.json", KEY) for stage in STAGES}
        self._checkpoints = {one.name: checkpoint_of(one) for one in options.networks}

    def begin(self, stages: Sequence[str], *, resume: bool) -> None:
        """Forget what was measured of the chosen networks in ``stages``, unless to ``resume``.

        Raises:
            OutputError: records that would be used or left are of another machine.
        """
        for stage in stages:
            if resume:
                self.records[stage].refuse_other_machine()
                continue
            self.records[stage].drop(lambda row: row["network"] in self._checkpoints)
            for trial in self._trials(stage, {}):
                trial.forget()

    def merge(self, folder: Path) -> None:
        """Take over the records of another run's folder.

        Raises:
            OutputError: they, or those here, are of another machine.
        """
        for stage in STAGES:
            other = Records(folder / f"{stage}.json", KEY)
            other.refuse_other_machine()
            for row in other.rows:
                self.records[stage].add(row)

    def quality_targets(self) -> None:
        """What the typed line gives: quality, work, and speed against 8 bits not shrunk."""
        self._measure("quality_targets", typed_forms(quick=self.options.quick), WHOLE)

    def paper_table(self) -> None:
        """Plain quantization and WCC: quality, bit operations, and speed against float."""
        self._measure("paper_table", paper_forms(quick=self.options.quick), PUBLISHED)

    def redundancy(self) -> None:
        """Quality in float with half of the channels."""
        for trial in self._trials("redundancy", {}):
            halving = Halving(trial)
            for name in HALVES:
                self._once("redundancy", trial, name, partial(self._halved, trial, halving, name))

    def _trials(self, stage: str, forms: Mapping[str, Own]) -> Iterator[Trial]:
        for network in self.options.networks:
            if stage == "paper_table" and not (network.example in _PAPER or self.options.quick):
                continue
            if stage == "paper_table":  # the top k of a map depend on its size
                network = replace(network, size=network.typed or network.size)
            for seed in range(self.options.seeds):
                folder = self.options.work / stage
                yield Trial(network, folder, forms, seed, few=self.options.quick)

    def _measure(self, stage: str, forms: Mapping[str, Own], base: str) -> None:
        for trial in self._trials(stage, forms):
            for name in (PUBLISHED, *forms):
                self._once(stage, trial, name, partial(self._scored, stage, trial, name))
            if self.options.timed:
                self._time(stage, trial, base)

    def _scored(self, stage: str, trial: Trial, name: str) -> Record:
        made = trial.make(name)
        record = {**self._score(trial, Session(made.path).run), **on_paper(made)}
        if name == PUBLISHED:
            return {**record, **against_float(record, record)}
        in_float = self._found(stage, trial, PUBLISHED)
        return {**record, **against_float(record, in_float), "cpu_minutes": trial.minutes(name)}

    def _halved(self, trial: Trial, halving: Halving, name: str) -> Record:
        smaller, left = halving.halved(HALVES[name])
        record = {**self._score(trial, in_torch(smaller)), **left}
        in_float = record if name == AS_IT_IS else self._found("redundancy", trial, AS_IT_IS)
        return {**record, **against_float(record, in_float)}

    def _score(self, trial: Trial, run: Callable[[Any], Any]) -> Record:
        return score(trial.network, run, limit=_FEW if self.options.quick else None)

    def _time(self, stage: str, trial: Trial, base: str) -> None:
        title = f"{stage}: {trial.network.name} seed {trial.seed}"
        identity, runs = self._identity(trial), self.options.runs
        time_forms(self.records[stage], identity, trial, base, runs, title)

    def _once(self, stage: str, trial: Trial, name: str, measured: Callable[[], Record]) -> Record:
        """Return the record that is there, or measure and write one, be it of an error."""
        key = {**self._identity(trial), "variant": name}
        found = self.records[stage].find(**key)
        if found is not None and "error" not in found:
            return found
        say(f"{stage}: {trial.network.name} {name} seed {trial.seed}")
        record: Record = {**key}
        with recorded(record):
            record |= measured()
        return self.records[stage].add(record)

    def _found(self, stage: str, trial: Trial, name: str) -> Record:
        found = self.records[stage].find(**self._identity(trial), variant=name)
        if found is None or "error" in found:
            raise WaveedgeError(f"there is no score of the {name} network to compare with")
        return found

    def _identity(self, trial: Trial) -> Record:
        """The fields of all records of a trial; weights that were trained again have others."""
        name = trial.network.name
        return {"network": name, "seed": trial.seed, "checkpoint": self._checkpoints[name]}
