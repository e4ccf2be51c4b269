"""Benchmark of exported networks: time, memory, size, two side by side or one, on this machine."""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from waveedge.errors import InputError, WaveedgeError
from waveedge.runtime import notes as notes_of
from waveedge.runtime.backend import Array
from waveedge.runtime.batches import time_batch
from waveedge.runtime.common_inputs import common_inputs
from waveedge.runtime.drift import Watch
from waveedge.runtime.eager import TorchSession
from waveedge.runtime.energy import measure_energy
from waveedge.runtime.machine import describe_machine
from waveedge.runtime.pairs import bootstrap_ratio, device_ratio, time_pairs
from waveedge.runtime.report import Comparison
from waveedge.runtime.rival import rival_of
from waveedge.runtime.session import Session
from waveedge.runtime.side import Side
from waveedge.runtime.throughput import WINDOWS, default_streams, measure_throughput

__all__ = ["benchmark"]

if TYPE_CHECKING:
    from torch import nn

Network: TypeAlias = "str | Path | nn.Module"

_LOADS = 3
_MOST_RUNS = 100_000
_MOST_BATCH = 4096


def benchmark(
    a: Network,
    b: Network | None = None,
    *,
    alone: bool = False,
    threads: int = 1,
    runs: int = 30,
    warmup: int = 5,
    memory: bool = True,
    seed: int = 0,
    images: Sequence[Array] | None = None,
    input_size: tuple[int, int] | None = None,
    batches: Sequence[int] = (),
    throughput: bool = False,
    streams: int | None = None,
    provider: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare the speed and memory of two networks, one of them exported; or measure one alone.

    Args:
        a: a bundle folder, an ``.onnx`` file or an engine; or a torch module, which is run eagerly
            where its parameters are, on what the other side takes.
        b: what to compare with, of the same kinds; by default the bundle's own baseline, the
            uncompressed network exported as published; where engines run, its engine that was
            fastest in a race here, or that in float16. A file by itself, or a bundle without one,
            is measured alone.
        alone: leave a bundle's baseline out: no ratios, and ``b`` of the result is None.
        threads: CPU threads, up to this machine's processors.
        runs: pairs measured, or runs of one alone, up to 100,000.
        warmup: pairs run before and not counted.
        memory: measure peak memory too, each in a fresh process.
        seed: of the order within pairs, of random inputs and of the bootstrap.
        images: preprocessed inputs (batch, channels, height, width), used in turn, the same one
            for both sides of a pair; by default one random input. Further inputs of a network
            are always random (see ``Session.example_inputs``).
        input_size: (height, width) in pixels of the random input, where a network leaves it free;
            by default what the bundle was made for.
        batches: time at each of these, too; what one cannot run is refused, with the reason.
        throughput: measure images a second, too, with several runs under way at once.
        streams: how many; by default as many as fill the CPU, and 2 for engines.
        provider: as for ``Session``.
        progress: called after each step with (steps done, steps in all): pairs, warm-up included,
            and windows of throughput.

    Raises:
        InputError: an option makes no sense, the two networks take different inputs, or there
            are none but modules.
        ArtifactError: a bundle or model is damaged.
        WaveedgeError: this machine has not enough memory.
    """
    if not 1 <= runs <= _MOST_RUNS or not 0 <= warmup <= _MOST_RUNS:
        raise InputError(
            f"runs is {runs} and warmup is {warmup}",
            hint=f"Measure 1 to {_MOST_RUNS:,} runs.",
        )
    if any(not 1 <= batch <= _MOST_BATCH for batch in batches):
        raise InputError(f"batches are {list(batches)}", hint=f"Each is 1 to {_MOST_BATCH}.")
    if streams is not None and not throughput:
        raise InputError("streams are for throughput", hint="Ask for throughput, or leave them.")
    if alone and b is not None:
        raise InputError("alone leaves out what to compare with", hint="Give one of them.")
    rival = None if alone or b is not None else rival_of(a, provider)
    versus = rival.path if rival else b
    networks = [a] if versus is None else [a, versus]
    machine = describe_machine()
    notes = notes_of.busy(machine.cores)
    if versus is None and not alone and isinstance(a, str | Path) and os.path.isdir(a):
        notes.append("The bundle carries no network as published: it was measured alone.")

    # A bundle's own baseline runs by what runs the bundle: the ratio is of the networks alone.
    providers = [provider] * len(networks)
    if rival and _is_onnx(rival.path):
        providers[1] = str(rival.bundle.manifest["provider"]) if provider == "auto" else provider
    sides = _load(networks, threads, providers)
    sessions = [side.session for side in sides]
    inputs = common_inputs(sessions, images, input_size, seed)

    watch = Watch(warmup)
    total = (warmup + runs) * (1 + len(batches)) + WINDOWS * throughput
    steps = itertools.count(1)

    def step(*_: int) -> None:
        if progress:
            progress(next(steps), total)

    def pair(done: int, pairs: int) -> None:
        watch.pair(done, pairs)
        step()

    cpu, wall, order = time_pairs(
        *([partial(side.run, arrays) for arrays in inputs] for side in sides),
        runs=runs,
        warmup=warmup,
        seed=seed,
        progress=pair,
    )
    drift = watch.drift(*wall.T.tolist())
    on_gpu = any(session.on_gpu for session in sessions)
    notes += drift.notes(gpu=on_gpu, alone=len(sides) == 1)

    if len(inputs[0]) > 1:
        take = "The networks take" if len(sides) > 1 else "The network takes"
        notes.append(f"{take} {len(inputs[0])} inputs: floats and bytes were random, all else 0.")
    if len({session.backend for session in sessions}) > 1:
        notes.append("A and B ran on different runtimes: the ratio compares those as well.")
    shape = tuple(inputs[0][0].shape)
    energy = measure_energy(
        [partial(session.run, *inputs[0]) for session in sessions],
        [session.on_gpu for session in sessions],
    )
    side_a, *others = (
        side.variant(
            cpu[:, column],
            wall[:, column],
            inputs[0],
            threads,
            memory,
            energy.powers[column],
            runs=runs,
            warmup=warmup,
            seed=seed,
        )
        for column, side in enumerate(sides)
    )
    notes += [note for side in sides for note in side.notes]
    rows = [
        time_batch(sessions, inputs, batch, runs=runs, warmup=warmup, seed=seed, progress=step)
        for batch in batches
    ]
    rate = None
    if throughput:
        count = streams or default_streams(*sessions, threads=threads, cores=machine.cores)
        try:
            rate = measure_throughput(sessions, inputs[0], streams=count, seed=seed, progress=step)
        except WaveedgeError as error:  # as where memory does not do for so many
            notes.append(f"No throughput with {count} streams: {error.what}.")
    notes += energy.notes
    side_b = others[0] if others else None
    if side_b and rival:
        side_b = rival.named(side_b)
        notes += [rival.note] if rival.note else []
        if side_b.path == side_a.path:
            notes.append("A and B are one engine: the race chose the network as published.")
    peaks = side_a.peak_bytes, side_b.peak_bytes if side_b else None
    return Comparison(
        a=side_a,
        b=side_b,
        cpu_ratio=bootstrap_ratio(cpu[:, 1], cpu[:, 0], seed=seed) if side_b else None,
        wall_ratio=bootstrap_ratio(wall[:, 1], wall[:, 0], seed=seed) if side_b else None,
        device_ratio=device_ratio(side_a.device, side_b.device, seed=seed) if side_b else None,
        memory_ratio=peaks[1] / peaks[0] if peaks[0] and peaks[1] else None,
        size_ratio=side_b.file_bytes / side_a.file_bytes if side_b else None,
        energy_ratio=energy.ratio,
        batches=tuple(rows),
        throughput=rate,
        order=order,
        threads=threads,
        warmup=warmup,
        seed=seed,
        input_shape=shape,
        input_source="random" if images is None else "images",
        machine=machine,
        drift=drift,
        notes=tuple(notes),
    )


def _load(networks: Sequence[Network], threads: int, providers: Sequence[str]) -> list[Side]:
    """Load all several times in turn: the process's first load pays for onnxruntime's start."""
    files = [isinstance(network, str | Path) for network in networks]
    if not any(files):
        which = "both networks are modules" if len(files) > 1 else "the network is a module"
        raise InputError(
            f"{which}, and what a module takes it does not tell",
            hint="Compare with what was exported of it: benchmark(bundle, module)",
        )
    sessions: dict[int, Session] = {}
    loads: list[list[float]] = [[] for _ in networks]
    for _ in range(_LOADS):
        for side, (network, provider) in enumerate(zip(networks, providers, strict=True)):
            if isinstance(network, str | Path):
                sessions[side] = Session(network, threads=threads, provider=provider)
                loads[side].append(sessions[side].load_seconds * 1000)
    for side, network in enumerate(networks):
        if not isinstance(network, str | Path):
            inputs = sessions[1 - side].inputs
            sessions[side] = TorchSession(network, threads=threads, inputs=inputs)
    return [
        Side("AB"[side], sessions[side], statistics.median(times) if times else None)
        for side, times in enumerate(loads)
    ]


def _is_onnx(path: Path) -> bool:
    return path.suffix in (".onnx", ".ort")
