"""Networks at several batches: how long a run takes, and how many images a second that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from waveedge.errors import InputError, WaveedgeError
from waveedge.runtime.backend import Array
from waveedge.runtime.figures import BatchRow, BatchTiming, Ratio
from waveedge.runtime.inputs import example_inputs
from waveedge.runtime.pairs import bootstrap_ratio, time_pairs, timing
from waveedge.runtime.session import Session

__all__ = ["time_batch"]


def time_batch(
    sessions: Sequence[Session],
    inputs: Sequence[tuple[Array, ...]],
    batch: int,
    *,
    runs: int,
    warmup: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> BatchRow:
    """Time networks at one batch, in pairs. What one cannot run is refused with the reason.

    Args:
        sessions: of A, and of B if there is one.
        inputs: of the comparison; their images fill the batch in turn.
        runs, warmup, seed, progress: as for ``benchmark``.
    """
    reasons = [""] * len(sessions)
    arrays: tuple[Array, ...] = ()
    try:
        arrays = _filled(sessions[0], inputs, batch, seed)
    except WaveedgeError as error:
        reasons = [error.what] * len(sessions)
    for side, session in enumerate(sessions):
        reasons[side] = reasons[side] or _refusal(session, arrays)
    if all(reasons):
        return _row(batch, [BatchTiming(reason=why) for why in reasons], None)
    steps = [
        [_nothing if why else partial(session.run, *arrays)]
        for session, why in zip(sessions, reasons, strict=True)
    ]
    _, wall, _ = time_pairs(*steps, runs=runs, warmup=warmup, seed=seed, progress=progress)
    sides = [
        BatchTiming(reason=why)
        if why
        else BatchTiming(timing(times), 1000 * batch / float(np.median(times)))
        for times, why in zip(wall.T, reasons, strict=True)
    ]
    if any(reasons) or len(sides) == 1:
        return _row(batch, sides, None)
    return _row(batch, sides, bootstrap_ratio(wall[:, 1], wall[:, 0], seed=seed))


def _row(batch: int, sides: Sequence[BatchTiming], ratio: Ratio | None) -> BatchRow:
    return BatchRow(batch, sides[0], sides[1] if len(sides) > 1 else None, ratio)


def _filled(
    session: Session, inputs: Sequence[tuple[Array, ...]], batch: int, seed: int
) -> tuple[Array, ...]:
    """Inputs of so many images: the comparison's own, over and over; the rest as always."""
    first = inputs[0][0]
    if not first.ndim:
        raise InputError("the network takes no batch")
    # First, as this refuses what no machine should be asked to hold.
    further = example_inputs(session.inputs, shape=(batch, *first.shape[1:]), seed=seed)[1:]
    images = np.concatenate([arrays[0] for arrays in inputs[:batch]])
    return np.ascontiguousarray(images[np.arange(batch) % len(images)]), *further


def _refusal(session: Session, arrays: Sequence[Array]) -> str:
    """Why a network cannot run this; empty where it did."""
    try:
        session.run(*arrays)
    except WaveedgeError as error:
        return f"{error.what}. {error.hint}" if error.hint else error.what
    return ""


def _nothing() -> None:
    """Stand in for a side that cannot run."""
