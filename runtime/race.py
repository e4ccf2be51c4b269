"""Which of a bundle's engines is fastest on this device, at a quality that the user accepted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waveedge.errors import InputError
from waveedge.filetypes import RACE, RACE_FORMAT
from waveedge.outputs import RACE_RESULT, new_file
from waveedge.runtime.backend import Array
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.engine import EngineBackend
from waveedge.runtime.engine_manifest import (
    device_of,
    dla_core,
    engine_of,
    engines_of,
    read_engine,
)
from waveedge.runtime.inputs import example_inputs
from waveedge.runtime.machine import describe_machine
from waveedge.runtime.pairs import bootstrap_ratio
from waveedge.runtime.travelling import travelling_batches

__all__ = ["Lap", "admitted_here", "chosen_engine", "least_quality", "race"]

_FORMAT = f"{RACE_FORMAT}2"
_WARMUP = 5
_CORES = 64  # more than there are, so that no edited file names another
_TOLERANCE_DB = 0.5
"""What the quality of a form may lie below that of the compressed network, being rounding."""


@dataclass(frozen=True)
class Lap:
    """One engine in the race.

    Attributes:
        form, file: of the bundle.
        dla_core: the deep learning accelerator that runs it; None for the GPU.
        snr_db: of the form to the user's network.
        admitted: whether that is enough.
        chosen: whether it is the fastest of those.
        ms: median time of a run, from host to host, in milliseconds.
        slower: its time over that of the chosen one, with low and high end of the 95 % interval.
    """

    form: str
    file: str
    dla_core: int | None
    snr_db: float
    admitted: bool
    chosen: bool
    ms: float
    slower: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "slower": list(self.slower)}


def race(
    folder: str | Path,
    *,
    runs: int = 30,
    least_db: float | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Lap]:
    """Time all engines of a bundle in turn, and make the fastest good one what its sessions run.

    Every round runs each engine once, in random order, on the same image; images travel to the GPU
    and back. The result stands in the bundle, for this device alone.

    Args:
        folder: a bundle with engines, as ``waveedge build`` leaves it.
        runs: rounds, after 5 to warm up.
        least_db: the signal-to-noise ratio to the user's network that a form must have; by default
            that of the compressed network, which the user asked for.
        seed: of the order and of the bootstrap.
        progress: called with (what is being done, rounds done, rounds in all).

    Returns:
        the engines, fastest first.

    Raises:
        InputError: there is no bundle, it has no engine, or none is good enough.
        ArtifactError: the bundle is damaged, or an engine does not fit this device.
        MissingDependencyError: TensorRT or a GPU is missing here.
    """
    bundle = open_bundle(folder)
    runners = [
        (form, engine)
        for form in bundle.manifest["forms"]
        for engine in engines_of(bundle, form["file"])
    ]
    if not runners:
        raise InputError(
            f"{folder} has no engines to race", hint=f"Build them first: waveedge build {folder}"
        )
    if least_db is None:
        least_db = least_quality(bundle)
    admitted = {engine: form["snr_db"] >= least_db for form, engine in runners}
    if not any(admitted.values()):
        raise InputError(
            f"no engine of {folder} has {least_db:.1f} dB to your network",
            hint="The best has "
            f"{max(form['snr_db'] for form, _ in runners):.1f} dB; ask for less, or build others.",
        )
    engines = {path: EngineBackend(path) for _, path in runners}
    times = _times(engines, _inputs(bundle, engines), runs, seed, progress)
    good = [path for path in times if admitted[path]]
    best = min(good, key=lambda path: float(np.median(times[path])))
    laps = []
    for form, path in runners:
        ratio = bootstrap_ratio(times[path], times[best], seed=seed)
        laps.append(
            Lap(
                form=form["name"],
                file=form["file"],
                dla_core=dla_core(path),
                snr_db=form["snr_db"],
                admitted=admitted[path],
                chosen=path == best,
                ms=float(np.median(times[path])),
                slower=(ratio.value, ratio.low, ratio.high),
            )
        )
    laps.sort(key=lambda lap: lap.ms)
    library = str(read_engine(best)["library"]).partition(" ")[0]
    _write(bundle, library, least_db, runs, laps)
    return laps


def least_quality(bundle: Bundle) -> float:
    """The signal-to-noise ratio, in dB, that a form needs to be as good as the bundle's own."""
    own = [f for f in bundle.manifest["forms"] if f["file"] == bundle.manifest["model"]]
    return float(own[0]["snr_db"]) - _TOLERANCE_DB if own else 0.0


def admitted_here(bundle: Bundle) -> list[tuple[str, int | None]]:
    """Files of forms that a race on this device admitted, each with the DLA core that ran it.

    The fastest first; empty without such a race.
    """
    if _raced(bundle) is None:
        return []
    laps = json.loads((bundle.path / RACE).read_bytes()).get("forms")
    cores = (None, *range(_CORES))
    try:
        ran = [lap for lap in laps if lap["ms"] is not None and lap["dla_core"] in cores]
        return [(str(lap["file"]), lap["dla_core"]) for lap in ran if lap["admitted"] is True]
    except (TypeError, KeyError):  # edited
        return []


def chosen_engine(bundle: Bundle) -> Path | None:
    """The engine that a race on this device chose; without one, the first of the bundle's form.

    Raises:
        ArtifactError: it does not fit this device, or is not what was built.
    """
    raced = _raced(bundle)
    if raced is not None and (engine := engine_of(bundle, *raced)) is not None:
        return engine
    return next(iter(engines_of(bundle, str(bundle.manifest["model"]))), None)


def _raced(bundle: Bundle) -> tuple[str, int | None] | None:
    """The file of the form that a race on this device chose, and the DLA core that runs it."""
    try:
        with (bundle.path / RACE).open("rb") as file:
            found = json.loads(file.read(2**20))
        files = {form["file"] for form in bundle.manifest["forms"]}
        chosen, core, device = found["chosen"], found["dla_core"], found["device"]
        right = found["format"] == _FORMAT and found["bundle"] == bundle.manifest["sha256"]
        if right and chosen in files and (core is None or core in range(_CORES)):
            library = str(device["library"]).partition(" ")[0]
            return (str(chosen), core) if device == device_of(library) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError):
        pass  # no race, or of another device or bundle: what was asked for runs
    return None


def _inputs(bundle: Bundle, engines: Mapping[Path, EngineBackend]) -> list[Array]:
    """Images that travel in the bundle; a random one without."""
    taken = next(iter(engines.values())).inputs
    return travelling_batches(bundle, taken[0]) or [example_inputs(taken)[0]]


def _times(
    engines: Mapping[Path, EngineBackend],
    images: Sequence[Array],
    runs: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> dict[Path, Array]:
    """Wall times in milliseconds, of shape (runs,) each."""
    rng = np.random.default_rng(seed)
    paths = list(engines)
    times = {path: np.zeros(runs) for path in paths}
    for number in range(-_WARMUP, runs):
        for index in rng.permutation(len(paths)):
            path = paths[index]
            start = time.perf_counter()
            engines[path].run(images[number % len(images)])
            if number >= 0:
                times[path][number] = (time.perf_counter() - start) * 1000
        if progress is not None:
            progress("racing", number + _WARMUP + 1, runs + _WARMUP)
    return times


def _write(bundle: Bundle, library: str, least_db: float, runs: int, laps: Sequence[Lap]) -> None:
    best = next(lap for lap in laps if lap.chosen)
    result = {
        "format": _FORMAT,
        "bundle": bundle.manifest["sha256"],
        "chosen": best.file,
        "dla_core": best.dla_core,
        "device": device_of(library),
        "least_db": least_db,
        "runs": runs,
        "forms": [lap.to_dict() for lap in laps],
        "machine": describe_machine().to_dict(),
    }
    with new_file(bundle.path / RACE, RACE_RESULT) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
