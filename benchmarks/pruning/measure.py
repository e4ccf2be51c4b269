"""The benchmark as a loop over networks, seeds and forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.pruning.forms import Theirs
from benchmarks.pruning.page import render
from benchmarks.pruning.trial import Budget, PruningTrial
from benchmarks.quality_tables.campaign import Campaign, Options
from benchmarks.quality_tables.forms import PUBLISHED, WHOLE
from benchmarks.variants import Own

__all__ = ["Pruning"]


class Pruning(Campaign):
    """The result file, and what fills it.

    Args:
        options: what to measure, and where to.
        ours: waveedge's forms.
        theirs: torch-pruning's forms.
        budget: what torch-pruning's side may try.
    """

    def __init__(
        self,
        options: Options,
        ours: Mapping[str, Own],
        theirs: Mapping[str, Theirs],
        budget: Budget,
    ) -> None:
        super().__init__(options)
        self.records = self.file("pruning")
        self._ours, self._theirs, self._budget = ours, theirs, budget

    def run(self, *, resume: bool) -> None:
        """Measure what is missing; unless to ``resume``, all of the chosen networks.

        Raises:
            OutputError: records that would be used or left are of another machine.
        """
        self.begin_file(self.records, self._trials(), resume=resume)
        for trial in self._trials():
            for name in (PUBLISHED, *trial.own):
                self.form(self.records, trial, name)
                render(self.records, self.options.out)
            if self.options.timed:
                self.time(self.records, trial, WHOLE)
                render(self.records, self.options.out)

    def _trials(self) -> Iterator[PruningTrial]:
        options = self.options
        for network in options.networks:
            for seed in range(options.seeds):
                yield PruningTrial(
                    network,
                    options.work,
                    self._ours,
                    self._theirs,
                    seed,
                    few=options.quick,
                    budget=self._budget,
                )
