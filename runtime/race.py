"""Which of a bundle's engines is fastest on this device, at a quality that the user accepted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from waveedge.errors import InputError, WaveedgeError
from waveedge.filetypes import RACE, RACE_FORMAT
from waveedge.outputs import RACE_RESULT, new_file
from waveedge.runtime.backend import Array
from waveedge.runtime.bundle import Bundle, open_bundle
from waveedge.runtime.engine import EngineBackend
from waveedge.runtime.engine_manifest import (
    device_of,
    engine_cores,
    engine_of,
    engine_path,
    engines_of,
    read_engine,
)
from waveedge.runtime.inputs import example_inputs
from waveedge.runtime.machine import describe_machine
from waveedge.runtime.pairs import bootstrap_ratio
from waveedge.runtime.travelling import travelling_batches

__all__ = ["Lap", "admitted_here", "chosen_engine", "least_quality", "race", "raced_on"]

_FORMAT = f"{RACE_FORMAT}3"
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
        ms: median time of a run, from host to host, in milliseconds; None where it did not run.
        slower: its time over that of the chosen one, with low and high end of the 95 % interval;
            None likewise.
        error: why it did not run, as where memory does not do for it; else empty.
    """

    form: str
    file: str
    dla_core: int | None
    snr_db: float
    admitted: bool
    chosen: bool
    ms: float | None = None
    slower: tuple[float, float, float] | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "slower": list(self.slower) if self.slower else None}


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
    and back. One that does not fit this device, or fails to load or run beside the others, is left
    out from there on. The result stands in the bundle, for this device alone.

    Args:
        folder: a bundle with engines, as ``waveedge build`` leaves it.
        runs: rounds, after 5 to warm up.
        least_db: the signal-to-noise ratio to the user's network that a form must have; by default
            that of the compressed network, which the user asked for.
        seed: of the order and of the bootstrap.
        progress: called with (what is being done, rounds done, rounds in all).

    Returns:
        the engines, fastest first; those that were left out at the end.

    Raises:
        InputError: there is no bundle, it has no engine, or none is good enough.
        ArtifactError: the bundle is damaged.
        MissingDependencyError: TensorRT or a GPU is missing here.
        WaveedgeError: none of those that are good enough runs.
    """
    bundle = open_bundle(folder)
    runners = [
        _Runner(form, core)
        for form in bundle.manifest["forms"]
        for core in engine_cores(bundle, form["file"])
        if engine_path(bundle, form["file"], core).is_file()
    ]
    if not runners:
        raise InputError(
            f"{folder} has no engines to race", hint=f"Build them first: waveedge build {folder}"
        )
    if least_db is None:
        least_db = least_quality(bundle)
    for runner in runners:
        runner.admitted = runner.form["snr_db"] >= least_db
    if not any(runner.admitted for runner in runners):
        raise InputError(
            f"no engine of {folder} has {least_db:.1f} dB to your network",
            hint=f"The best has {max(runner.form['snr_db'] for runner in runners):.1f} dB; ask for "
            "less, or build others.",
        )
    # Those that may be chosen first: where memory does not do for all, it does for these.
    runners.sort(key=lambda runner: not runner.admitted)
    for runner in runners:
        runner.attempt(partial(_load, bundle, runner))
    _time(bundle, runners, runs, seed, progress)
    laps = _laps(runners, seed)
    _write(bundle, least_db, runs, laps)
    return laps


@dataclass
class _Runner:
    """An engine, its times in milliseconds so far, or why it runs no more."""

    form: Mapping[str, Any]
    core: int | None
    admitted: bool = False
    backend: EngineBackend | None = None
    times: list[float] = field(default_factory=list)
    failure: WaveedgeError | None = None

    def attempt(self, work: Callable[[], object]) -> None:
        """Do what may fail on this engine's account; then it is given up, and its memory back."""
        try:
            work()
        except WaveedgeError as error:
            # Its traceback would hold the engine.
            self.failure, self.backend = error.with_traceback(None), None


def _load(bundle: Bundle, runner: _Runner) -> None:
    engine = engine_of(bundle, runner.form["file"], runner.core)
    if engine is not None:
        runner.backend = EngineBackend(engine)


def _time(
    bundle: Bundle,
    runners: Sequence[_Runner],
    runs: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Run all in turn, until all runs are done or none is left that may be chosen.

    Raises the first one's error where none is.
    """
    rng = np.random.default_rng(seed)
    images: Sequence[Array] = ()
    for number in range(-_WARMUP, runs):
        for index in rng.permutation(len(runners)):
            runner = runners[index]
            if runner.backend is not None:
                images = images or _inputs(bundle, runner.backend)
                runner.attempt(partial(_run, runner, images[number % len(images)], number >= 0))
        if not any(runner.admitted and runner.backend is not None for runner in runners):
            raise next(one.failure for one in runners if one.admitted and one.failure)
        if progress is not None:
            progress("racing", number + _WARMUP + 1, runs + _WARMUP)


def _run(runner: _Runner, image: Array, timed: bool) -> None:
    assert runner.backend is not None
    start = time.perf_counter()
    runner.backend.run(image)
    if timed:
        runner.times.append((time.perf_counter() - start) * 1000)


def _laps(runners: Sequence[_Runner], seed: int) -> list[Lap]:
    ran = [runner for runner in runners if runner.failure is None]
    best = min((one for one in ran if one.admitted), key=lambda one: float(np.median(one.times)))
    laps = []
    for runner in runners:
        lap = Lap(
            form=runner.form["name"],
            file=runner.form["file"],
            dla_core=runner.core,
            snr_db=runner.form["snr_db"],
            admitted=runner.admitted,
            chosen=runner is best,
        )
        if runner.failure is not None:
            laps.append(replace(lap, error=runner.failure.what))
            continue
        ratio = bootstrap_ratio(np.array(runner.times), np.array(best.times), seed=seed)
        slower = ratio.value, ratio.low, ratio.high
        laps.append(replace(lap, ms=float(np.median(runner.times)), slower=slower))
    return sorted(laps, key=lambda lap: math.inf if lap.ms is None else lap.ms)


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
    if raced is not None:
        engine = engine_of(bundle, str(raced["chosen"]), raced["dla_core"])
        if engine is not None:
            return engine
    return next(iter(engines_of(bundle, str(bundle.manifest["model"]))), None)


def raced_on(bundle: Bundle) -> Mapping[str, Any]:
    """The machine as it was in the race that chose what runs here; empty without one.

    It stands in a file that anyone may have edited.
    """
    machine = (_raced(bundle) or {}).get("machine")
    return machine if isinstance(machine, dict) else {}


def _raced(bundle: Bundle) -> Mapping[str, Any] | None:
    """What a race on this device wrote: the file of the form it chose, and the DLA core, if any."""
    try:
        with (bundle.path / RACE).open("rb") as file:
            found = json.loads(file.read(2**20))
        files = {form["file"] for form in bundle.manifest["forms"]}
        chosen, core, device = found["chosen"], found["dla_core"], found["device"]
        right = found["format"] == _FORMAT and found["bundle"] == bundle.manifest["sha256"]
        if right and chosen in files and (core is None or core in range(_CORES)):
            library = str(device["library"]).partition(" ")[0]
            return dict(found) if device == device_of(library) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError):
        pass  # no race, or of another device or bundle: what was asked for runs
    return None


def _inputs(bundle: Bundle, engine: EngineBackend) -> list[Array]:
    """Images that travel in the bundle; a random one without."""
    return travelling_batches(bundle, engine.inputs[0]) or [example_inputs(engine.inputs)[0]]


def _write(bundle: Bundle, least_db: float, runs: int, laps: Sequence[Lap]) -> None:
    best = next(lap for lap in laps if lap.chosen)
    engine = engine_path(bundle, best.file, best.dla_core)
    library = str(read_engine(engine)["library"]).partition(" ")[0]
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
