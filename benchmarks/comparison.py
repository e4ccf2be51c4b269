"""One network's contest: waveedge's forms and every peer's, each on its own runtime."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import contest
from benchmarks.peers import Attempt, attempts
from benchmarks.records import Record
from benchmarks.runners import InProcess, Runner, runner_of
from benchmarks.timing import WARMUP
from benchmarks.variants import OWN, Made, Workshop, variants_of
from waveedge.console import say
from waveedge.decibels import snr_db
from waveedge.errors import ExportError, WaveedgeError
from waveedge.runtime.pairs import bootstrap_ratio

__all__ = ["compare"]

_SEED = 0

Array = NDArray[Any]
Entry = Callable[[], tuple[Made, Runner]]


def compare(shop: Workshop, *, runs: int) -> list[Record]:
    """Make every form, run them all in turn on one thread, and return a record of each.

    A record has ``cpu_ratio``, published / form; ``against``, for each of waveedge's forms how many
    times faster that is than this one; and ``snr_db`` to the published network's output. A form
    that cannot be made or run here has the ``error`` instead.

    Args:
        shop: of the network.
        runs: rounds counted.
    """
    records: dict[str, Record] = {}
    runners: dict[str, Runner] = {}
    wanted: list[Array] = []
    with ExitStack() as opened:
        for name, entry in _entries(shop).items():
            say(f"peers: {shop.network.name} {name}")
            records[name] = {"network": shop.network.name, "variant": name}
            try:
                made, runner = entry()
                opened.callback(runner.close)
                outputs = [runner.run(image).output for image in shop.images]
                wanted = wanted or outputs  # the published network comes first
                records[name] |= _known(made, runner, _snr_db(wanted, outputs))
                runners[name] = runner
            except Exception as error:
                if name == "published":
                    raise
                if not isinstance(error, WaveedgeError):
                    traceback.print_exc()
                records[name]["error"] = getattr(error, "what", f"{type(error).__name__}: {error}")
                say(f"failed: {records[name]['error']}")
        times = contest(runners, shop.images, rounds=runs, warmup=min(WARMUP, runs), seed=_SEED)
    for name in times:
        records[name] |= {"threads": 1, "runs": runs, **_timed(name, times)}
    return list(records.values())


def _entries(shop: Workshop) -> dict[str, Entry]:
    def own(name: str) -> tuple[Made, Runner]:
        made = shop.make(name)
        return made, InProcess(made.path)

    def peer(attempt: Attempt) -> tuple[Made, Runner]:
        made = shop.attempt(attempt)
        return made, runner_of(attempt, made.path)

    return {
        **{name: partial(own, name) for name in ("published", *variants_of(shop.network))},
        **{one.name: partial(peer, one) for one in attempts(int8=shop.network.int8)},
    }


def _snr_db(wanted: list[Array], found: list[Array]) -> float:
    one, other = (np.concatenate([np.ravel(output) for output in side]) for side in (wanted, found))
    if one.shape != other.shape or not np.isfinite(other).all():
        raise ExportError("its output is of another shape, or not finite")
    return snr_db(one, other)


def _known(made: Made, runner: Runner, quality: float) -> Record:
    return {
        "runtime": runner.runtime,
        "snr_db": quality,
        "file_bytes": made.artifact_bytes,
        "settings": made.settings,
        "versions": made.versions,
    }


def _timed(name: str, times: Mapping[str, Array]) -> Record:
    cpu = times[name]
    against = {own: bootstrap_ratio(cpu, times[own], seed=_SEED) for own in OWN if own in times}
    return {
        "cpu_ms": float(np.median(cpu)),
        "cpu_ratio": asdict(bootstrap_ratio(times["published"], cpu, seed=_SEED)),
        "against": {own: asdict(ratio) for own, ratio in against.items()},
    }
