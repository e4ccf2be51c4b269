"""How good a form of a network is: against the published form, and on a test set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import Network, scoring
from waveedge.decibels import snr_db
from waveedge.runtime import Session

__all__ = ["fidelity", "score"]


def fidelity(
    model: Path, published: Path, images: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """Compare outputs on images, each on the runtime that it was made for.

    Returns:
        ``max_error``, the largest absolute difference, and ``snr_db``.
    """
    outputs = []
    for path in (published, model):
        session = Session(path)
        outputs.append(np.concatenate([np.ravel(session.run(image)) for image in images]))
    wanted, found = outputs
    worst = float(np.abs(wanted - found).max())
    return {"max_error": worst, "snr_db": snr_db(wanted, found)}


def score(
    network: Network, run: Callable[[Any], Any], *, limit: int | None = None
) -> dict[str, Any]:
    """Score ``run`` on the test set of a trained network, cut to the network's size.

    See ``examples/scoring.py``; as :data:`benchmarks.networks.NETWORKS` has the sizes, pictures
    stay whole. ``limit``: the first so many images of the set alone.
    """
    result = scoring().score(network.example, run, input_size=network.size, limit=limit)
    return {name: result[name] for name in ("metric", "value", "baseline", "count")}
