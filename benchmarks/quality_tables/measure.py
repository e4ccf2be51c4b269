"""The three tables, each a loop over networks and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.quality_tables.campaign import KEY, Campaign, Options
from benchmarks.quality_tables.forms import PUBLISHED, WHOLE, paper_forms, typed_forms
from benchmarks.quality_tables.judging import against_float
from benchmarks.quality_tables.redundancy import AS_IT_IS, HALVES, Halving, in_torch
from benchmarks.quality_tables.trial import Trial
from benchmarks.records import Record, Records
from benchmarks.variants import Own

__all__ = ["STAGES", "Tables"]

STAGES = ("quality_targets", "paper_table", "redundancy")

_PAPER = ("super_resolution", "denoiser")
"""The examples that make images of images, as most of the paper's networks do."""


class Tables(Campaign):
    """Result files and the stages that fill them; see :data:`STAGES`.

    A quick run makes few forms and takes few steps of tuning, and the paper's table of any network.
    """

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.records = {stage: self.file(stage) for stage in STAGES}

    def begin(self, stages: Sequence[str], *, resume: bool) -> None:
        """Forget what was measured of the chosen networks in ``stages``, unless to ``resume``.

        Raises:
            OutputError: records that would be used or left are of another machine.
        """
        for stage in stages:
            self.begin_file(self.records[stage], self._trials(stage, {}), resume=resume)

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
        records = self.records["redundancy"]
        for trial in self._trials("redundancy", {}):
            halving = Halving(trial)
            for name in HALVES:
                self.once(records, trial, name, partial(self._halved, trial, halving, name))

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
        records = self.records[stage]
        for trial in self._trials(stage, forms):
            for name in (PUBLISHED, *forms):
                self.form(records, trial, name)
            if self.options.timed:
                self.time(records, trial, base)

    def _halved(self, trial: Trial, halving: Halving, name: str) -> Record:
        smaller, left = halving.halved(HALVES[name])
        record = {**self.score(trial, in_torch(smaller)), **left}
        if name == AS_IT_IS:
            return {**record, **against_float(record, record)}
        in_float = self.found(self.records["redundancy"], trial, AS_IT_IS)
        return {**record, **against_float(record, in_float)}
