"""What launching an engine as one CUDA graph changes: with and without, in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from waveedge.errors import WaveedgeError
from waveedge.runtime.backend import Array
from waveedge.runtime.engine import EngineBackend
from waveedge.runtime.figures import GraphTiming
from waveedge.runtime.pairs import bootstrap_ratio, time_pairs, timing

__all__ = ["time_graph"]


def time_graph(
    engine: EngineBackend, arrays: Sequence[Array], *, runs: int, warmup: int, seed: int
) -> GraphTiming:
    """Time an engine without and with a CUDA graph, in pairs, on one input.

    Args:
        runs, warmup, seed: as for ``benchmark``.
    """
    times: tuple[list[float], list[float]] = ([], [])

    def plain() -> None:
        engine.run(*arrays)
        times[0].append(engine.times.execution if engine.times else 0.0)

    def as_graph() -> None:
        engine.run_graph(*arrays)
        times[1].append(engine.times.execution if engine.times else 0.0)

    try:
        as_graph()  # captured here, so that no pair has to
        _, wall, _ = time_pairs([plain], [as_graph], runs=runs, warmup=warmup, seed=seed)
    except WaveedgeError as error:
        return GraphTiming(reason=error.what)
    off, on = (timing(np.array(side[-runs:])) for side in times)
    return GraphTiming(
        off=timing(wall[:, 0]),
        on=timing(wall[:, 1]),
        device_off=off,
        device_on=on,
        ratio=bootstrap_ratio(wall[:, 0], wall[:, 1], seed=seed),
    )
