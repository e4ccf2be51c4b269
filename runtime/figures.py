"""What a benchmark measures, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waveedge.runtime.power import Power

__all__ = [
    "BatchRow",
    "BatchTiming",
    "Bits",
    "Footprint",
    "GraphTiming",
    "Rate",
    "Ratio",
    "Throughput",
    "Timing",
    "Variant",
]


@dataclass(frozen=True)
class Timing:
    """Times of the measured runs, in milliseconds.

    Attributes:
        median, p90, p99: of these times.
        low, high: the 95 % interval of the median.
        samples: each, in the order of the runs.
    """

    median: float
    p90: float
    p99: float
    low: float
    high: float
    samples: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """B divided by A, of medians, with its 95 % interval: above 1, A is the faster one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GraphTiming:
    """An engine's execution launched kernel by kernel, and as one CUDA graph, in turn.

    Attributes:
        off, on: elapsed time of a run from host to host, without and with a graph.
        device_off, device_on: the same on the GPU, transfers not counted.
        ratio: off / on of the elapsed times, as measured in pairs.
        reason: why there is none of this, as where the execution cannot be captured; else empty.
    """

    off: Timing | None = None
    on: Timing | None = None
    device_off: Timing | None = None
    device_on: Timing | None = None
    ratio: Ratio | None = None
    reason: str = ""


@dataclass(frozen=True)
class Footprint:
    """Where a network takes memory, in bytes; each is None where it cannot be had.

    Attributes:
        weights_bytes: what it has learned.
        activation_bytes: of one run.
        context_bytes: of an engine's execution context, on the GPU.
        process_bytes: resident memory of a process that does nothing else, at its peak.
        board_bytes: what a board whose GPU has no other memory has less of while that process runs.
        how: for each name without ``_bytes``, how it was measured, or why it was not.
    """

    weights_bytes: int | None
    activation_bytes: int | None
    context_bytes: int | None
    process_bytes: int | None
    board_bytes: int | None
    how: Mapping[str, str]


@dataclass(frozen=True)
class Bits:
    """Weight and activation bits of a bundle's layers, such as ``"w8a4"``.

    ``executed`` is what the runtime computes in: fewer than 8 bits run in 8-bit containers.
    """

    requested: str
    executed: str


@dataclass(frozen=True)
class BatchTiming:
    """One side of a comparison at one batch.

    Attributes:
        wall: elapsed time of a run of the whole batch; None where it cannot be run.
        images_per_second: the batch over the median time.
        reason: why it cannot be run: beyond an engine's profile, or fixed in the file; else empty.
    """

    wall: Timing | None = None
    images_per_second: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class BatchRow:
    """Both sides at one batch, in pairs; ``wall_ratio`` is that of times, B divided by A.

    ``b`` is None where a network was measured alone.
    """

    batch: int
    a: BatchTiming
    b: BatchTiming | None
    wall_ratio: Ratio | None


@dataclass(frozen=True)
class Rate:
    """Images a second of several streams at once: the median of windows, its 95 % interval.

    Attributes:
        samples: of each window.
        how: what ran at once.
    """

    value: float
    low: float
    high: float
    samples: tuple[float, ...]
    how: str


@dataclass(frozen=True)
class Throughput:
    """Networks kept busy by several streams, in windows that take turns.

    Attributes:
        streams: how many runs are under way at once.
        batch: images of a run.
        seconds: length of a window; each stream ends the run that it is in.
        a, b: images a second; ``b`` is None where a network was measured alone.
        ratio: A's rate over B's: above 1, A is the faster one; None of one alone.
    """

    streams: int
    batch: int
    seconds: float
    a: Rate
    b: Rate | None
    ratio: Ratio | None


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    Attributes:
        name: the network's name.
        form: which of a bundle's forms ran, such as ``"w8a8-float16"``; None without forms.
        precision: what floating-point layers compute in, such as ``"float16"``; None of a file by
            itself that does not tell, and of a module.
        path: the file that ran.
        backend: what ran it.
        cpu: CPU time of the process, over all its threads.
        wall: elapsed time.
        device: an engine's time on the GPU, by CUDA events around it, transfers not counted; None
            for what runs elsewhere.
        to_device, to_host: the same of the copies before and after it.
        cuda_graph: what a CUDA graph changes, of an engine.
        load_ms: time to load the file, in milliseconds, median of several; None of a
            module in memory.
        file_bytes: size of the file and its external weights.
        peak_bytes: peak activation memory (see ``waveedge.runtime.memory``), or None.
        memory: that and all else that it takes; None where memory was not measured.
        bits: of a bundle, else None.
        power: where the device measures it, else None.
    """

    name: str
    form: str | None
    precision: str | None
    path: str
    backend: str
    cpu: Timing
    wall: Timing
    device: Timing | None
    to_device: Timing | None
    to_host: Timing | None
    cuda_graph: GraphTiming | None
    load_ms: float | None
    file_bytes: int
    peak_bytes: int | None
    memory: Footprint | None
    bits: Bits | None
    power: Power | None
