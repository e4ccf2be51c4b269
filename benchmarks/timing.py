"""One measurement: a form of a network against its published form, interleaved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.records import Record
from waveedge.runtime import benchmark

__all__ = ["measure"]

WARMUP = 3


def measure(
    model: Path,
    published: Path,
    images: Sequence[NDArray[np.float32]],
    *,
    threads: int,
    runs: int,
    memory: bool = True,
) -> Record:
    """Time ``model`` against ``published``, each on the runtime that it was made for.

    Ratios are published / model: above 1, the model is the faster, or the smaller.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = benchmark(
        model,
        published,
        threads=threads,
        runs=runs,
        warmup=min(WARMUP, runs),
        memory=memory,
        images=images,
    )
    ours, theirs = found.a, found.b
    assert theirs is not None
    assert found.cpu_ratio is not None
    assert found.wall_ratio is not None
    return {
        "cpu_ratio": asdict(found.cpu_ratio),
        "wall_ratio": asdict(found.wall_ratio),
        "peak_ratio": found.memory_ratio,
        "cpu_ms": ours.cpu.median,
        "wall_ms": ours.wall.median,
        "published_cpu_ms": theirs.cpu.median,
        "published_wall_ms": theirs.wall.median,
        "peak_bytes": ours.peak_bytes,
        "published_peak_bytes": theirs.peak_bytes,
        "onnx_bytes": ours.file_bytes,
        "runs": found.runs,
        "warmup": found.warmup,
        "load_before": load,
    }
