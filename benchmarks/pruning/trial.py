"""Makes both sides' forms of one network from the same images."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from benchmarks.networks import Network
from benchmarks.pruning.distil import RATES, Distillation, adapt
from benchmarks.pruning.forms import SETTINGS, Theirs
from benchmarks.pruning.peer import Pruned, prune
from benchmarks.quality_tables.forms import WHOLE
from benchmarks.quality_tables.trial import Trial
from benchmarks.records import Record, write_text
from benchmarks.variants import Own
from waveedge import Compressed, load_artifact, save_artifact
from waveedge.compression.compress import compress
from waveedge.compression.lessons import windows_of
from waveedge.console import say
from waveedge.cost import parameters, profile
from waveedge.errors import ExportError

__all__ = ["Budget", "PruningTrial"]

_AS_IT_IS = {"importance": "magnitude", "everywhere": False, "as_it_is": True}
"""What torch-pruning does with a network that was not written so that it can be followed."""


@dataclass(frozen=True)
class Budget:
    """What torch-pruning's side may try.

    Attributes:
        settings: of :data:`SETTINGS`; the best one counts.
        probe: steps of fine-tuning after which the settings, then the best one's rates, are
            compared on held-out images.
        rates: of fine-tuning; the best one counts. Settings are compared under the first.
    """

    settings: tuple[str, ...] = tuple(SETTINGS)
    probe: int = 50
    rates: tuple[float, ...] = RATES


class PruningTrial(Trial):
    """A trial that also makes what torch-pruning leaves of the network.

    A pruned network is compressed as any user's: the same exact rewrites, 8 bits, not shrunk.

    Args:
        network: one of the trained ones.
        folder: where files are kept.
        ours: waveedge's forms; the one that is not shrunk is among them.
        theirs: torch-pruning's.
        seed: of the choice of images, and of everything else.
        few: whether a handful of images is enough.
        budget: what torch-pruning's side may try.
    """

    def __init__(
        self,
        network: Network,
        folder: Path,
        ours: Mapping[str, Own],
        theirs: Mapping[str, Theirs],
        seed: int,
        *,
        few: bool,
        budget: Budget,
    ) -> None:
        recipe = {"bits": 8, "shrink": False, "tune": 0}
        peers = {name: Own(form.title, recipe) for name, form in theirs.items()}
        super().__init__(network, folder, {**ours, **peers}, seed, few=few)
        self._theirs, self._budget = theirs, budget

    def artifact(self, name: str) -> Path:
        """See :class:`~benchmarks.variants.Workshop`."""
        if name in self._theirs:
            return self.folder / f"{name}.safetensors"
        return super().artifact(name)

    def compressed(self, name: str) -> Compressed:
        """See :class:`~benchmarks.variants.Workshop`."""
        if name not in self._theirs:
            return super().compressed(name)
        file = self.artifact(name)
        if not file.is_file():
            form = self._theirs[name]
            choice = self.choice(form.share)
            start = time.process_time()
            model = self._tuned(choice, form.steps)
            made = compress(
                model, images=self.loaded.images, warn=say, **(self.own[name].recipe or {})
            )
            save_artifact(made, file)
            minutes = choice["cpu_minutes"] + (time.process_time() - start) / 60
            write_text(self._minutes(name), json.dumps(minutes))
            told = {"published_macs": int(profile(model, self.network.size).macs)}
            write_text(self._told(name), json.dumps(told))
        return load_artifact(file)

    def told(self, name: str) -> Record:
        """See :class:`~benchmarks.quality_tables.trial.Trial`: which setting was the best."""
        form = self._theirs.get(name)
        if form is None:
            return super().told(name)
        known: Record = json.loads(self._told(name).read_text())
        return {**known, "setting": self.choice(form.share), "versions": self.pruned.versions}

    @cached_property
    def pruned(self) -> Pruned:
        """All that torch-pruning makes of the network.

        Raises:
            MissingDependencyError: it is not installed.
            ExportError: it failed altogether.
        """
        shares = list(dict.fromkeys(form.share for form in self._theirs.values()))
        settings = {name: SETTINGS[name] for name in self._budget.settings}
        return prune(
            self.network,
            self.loaded.model,
            self.loaded.images.calibration,
            shares,
            {**settings, "as it is": _AS_IT_IS},
            self.folder / "torch_pruning",
        )

    def choice(self, share: float) -> Record:
        """The setting and rate that do best for a share, after a few steps, on held-out images.

        Returns:
            Its row of the worker's report, with what all settings came to in ``tried``: errors
            relative to the output's power, or why there is none; and ``search_minutes``.
        """
        file = self.folder / f"choice{100 * share:g}.json"
        if not file.is_file():
            start = time.process_time()
            rows = {row["setting"]: row for row in self.pruned.of(share)}
            tried: Record = {
                row["setting"]: row["error"]
                for row in self.pruned.rows
                if row["share"] == share and "error" in row
            }
            for name, row in rows.items():
                say(f"{self.network.name}: torch-pruning, {share:.0%}, {name}")
                model = self._adapted(row)
                if parameters(model) < parameters(self.loaded.model):
                    tried[name] = self._probed(model, self._budget.rates[0])
                else:  # by batch norms, say, where there are none
                    tried[name] = "it leaves out nothing"
            # A network that is cut where it could not be followed is no form of theirs.
            able = [name for name in rows if name in SETTINGS and isinstance(tried[name], float)]
            if not able:
                raise ExportError("no setting of torch-pruning leaves anything out")
            best = min(able, key=lambda one: tried[one])
            model, rates = self._adapted(rows[best]), {self._budget.rates[0]: tried[best]}
            for rate in self._budget.rates[1:]:
                rates[rate] = self._probed(model, rate)
            minutes = (time.process_time() - start) / 60
            minutes += sum(row["cpu_minutes"] for row in rows.values())
            found = {
                **rows[best],
                "rate": min(rates, key=lambda one: rates[one]),
                "tried": tried,
                "tried_rates": {str(rate): error for rate, error in rates.items()},
                "search_minutes": minutes,
            }
            write_text(file, json.dumps(found))
        choice: Record = json.loads(file.read_text())
        return choice

    def _adapted(self, row: Record) -> nn.Module:
        return adapt(self.pruned.module(row), self.loaded.images.calibration)

    def _probed(self, model: nn.Module, rate: float) -> float:
        return self._distillation.train(model, self._budget.probe, rate)[1]

    def _tuned(self, choice: Record, steps: int) -> nn.Module:
        model = self._adapted(choice)
        return self._distillation.train(model, steps, choice["rate"])[0] if steps else model

    @cached_property
    def _distillation(self) -> Distillation:
        images, whole = self.loaded.images, self.compressed(WHOLE)
        size = self.network.typed or self.network.size
        return Distillation(
            self.loaded.model,
            images.calibration,
            images.judged,
            windows_of(whole.sizes, whole.graph, size),
            self.seed,
        )

    def _told(self, name: str) -> Path:
        return self.artifact(name).with_suffix(".told.json")
