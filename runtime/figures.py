"""What a benchmark measures, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from waveedge.runtime.power import Power

__all__ = ["Bits", "Ratio", "Timing", "Variant"]


@dataclass(frozen=True)
class Timing:
    """Times of the measured runs, in milliseconds."""

    median: float
    p90: float
    p99: float
    samples: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """B divided by A, of medians, with its 95 % interval: above 1, A is the faster one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bits:
    """Weight and activation bits of a bundle's layers, such as ``"w8a4"``.

    ``executed`` is what the runtime computes in: fewer than 8 bits run in 8-bit containers.
    """

    requested: str
    executed: str


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    Attributes:
        name: the network's name.
        path: the file that ran.
        backend: what ran it.
        cpu: CPU time of the process, over all its threads.
        wall: elapsed time.
        device: an engine's time on the GPU, by CUDA events around it, transfers not counted; None
            for what runs elsewhere.
        load_ms: time to load the file, in milliseconds, median of several.
        file_bytes: size of the file and its external weights.
        peak_bytes: peak activation memory (see ``waveedge.runtime.memory``), or None.
        bits: of a bundle, else None.
        power: where the device measures it, else None.
    """

    name: str
    path: str
    backend: str
    cpu: Timing
    wall: Timing
    device: Timing | None
    load_ms: float
    file_bytes: int
    peak_bytes: int | None
    bits: Bits | None
    power: Power | None
