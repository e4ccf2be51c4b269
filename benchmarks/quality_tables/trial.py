"""Makes the forms of one trained network from images that a seed has drawn."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import EXAMPLES, Loaded, Network, scoring
from benchmarks.records import Record, write_text
from benchmarks.variants import Own, Workshop
from waveedge import Compressed

__all__ = ["Trial", "checkpoint_of"]

_FEW = (8, 4)
"""Images to calibrate with and held out, in a quick run."""
_TIMED = 4
"""Test images that forms are timed on."""


def checkpoint_of(network: Network) -> str:
    """What tells the trained weights of a network from others."""
    assert network.example is not None
    return hashlib.sha256((EXAMPLES / network.example / "model.pt").read_bytes()).hexdigest()[:12]


class Trial(Workshop):
    """A workshop that compresses as is typed, and notes how much work that is.

    Args:
        network: one of the trained ones. Forms are made at the size that is typed, then exported,
            judged and timed at the network's own.
        folder: where files are kept.
        forms: what can be made.
        seed: of the choice of images, and of compression.
        few: whether a handful of images is enough.
    """

    def __init__(
        self, network: Network, folder: Path, forms: Mapping[str, Own], seed: int, *, few: bool
    ) -> None:
        seeded = {
            name: replace(form, recipe={**(form.recipe or {}), "seed": seed})
            for name, form in forms.items()
        }
        # Networks are trained again now and then; what was made of others must not pass for theirs.
        folder = folder / checkpoint_of(network) / f"seed{seed}"
        super().__init__(network, folder, seeded, seed)
        self._few = few

    @cached_property
    def loaded(self) -> Loaded:
        """See :class:`~benchmarks.variants.Workshop`."""
        whole = self.network.load(self.seed, self.network.typed)
        if not self._few:
            return whole
        (calibration, held_out), images = _FEW, whole.images
        few = replace(
            images,
            calibration=images.calibration[:calibration],
            held_out=images.held_out[:held_out],
            names=(),
        )
        return Loaded(whole.model, few)

    @cached_property
    def images(self) -> Sequence[NDArray[np.float32]]:
        """See :class:`~benchmarks.variants.Workshop`."""
        test = scoring().load_test_set(self.network.example, input_size=self.network.size)
        return list(test.inputs[:_TIMED, None])

    def compressed(self, name: str) -> Compressed:
        """See :class:`~benchmarks.variants.Workshop`."""
        if not self._minutes(name).is_file():
            self.loaded  # noqa: B018 (reading images is not counted)
            self.artifact(name).unlink(missing_ok=True)
            start = time.process_time()
            super().compressed(name)
            write_text(self._minutes(name), json.dumps((time.process_time() - start) / 60))
        return super().compressed(name)

    def minutes(self, name: str) -> float:
        """CPU minutes, of all threads, that compressing took; the form must have been made."""
        return float(json.loads(self._minutes(name).read_text()))

    def told(self, name: str) -> Record:
        """What is known of a form beside its measurements; it must have been made."""
        return {}

    def _minutes(self, name: str) -> Path:
        return self.artifact(name).with_suffix(".minutes.json")
