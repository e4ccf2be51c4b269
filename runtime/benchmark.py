"""Benchmark of two exported networks: time, memory, size, side by side on this machine."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from waveedge.errors import InputError
from waveedge.runtime.backend import Array
from waveedge.runtime.bundle import open_bundle
from waveedge.runtime.machine import describe_machine
from waveedge.runtime.pairs import bootstrap_ratio, time_pairs, timing
from waveedge.runtime.power import average_power
from waveedge.runtime.report import Bits, Comparison, Variant
from waveedge.runtime.session import Session

__all__ = ["benchmark"]

_LOADS = 3


def benchmark(
    a: str | Path,
    b: str | Path | None = None,
    *,
    threads: int = 1,
    runs: int = 30,
    warmup: int = 5,
    memory: bool = True,
    seed: int = 0,
    images: Sequence[Array] | None = None,
    provider: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare the speed and memory of two exported networks.

    Args:
        a: a bundle folder, an ``.onnx`` file or an engine.
        b: what to compare with; by default the bundle's own baseline, the uncompressed network
            exported as published.
        threads: CPU threads.
        runs: pairs measured.
        warmup: pairs run before and not counted.
        memory: measure peak memory too, each in a fresh process.
        seed: of the order within pairs, of random inputs and of the bootstrap.
        images: preprocessed inputs (batch, channels, height, width), used in turn, the same one
            for both sides of a pair; by default one normal-distributed random input.
        provider: as for ``Session``.
        progress: called after each pair with (pairs done, pairs in all), warm-up included.

    Raises:
        InputError: nothing to compare with, an option makes no sense, or the two networks take
            different inputs.
        ArtifactError: a bundle or model is damaged.
    """
    if runs < 1 or warmup < 0:
        raise InputError(f"runs is {runs} and warmup is {warmup}", hint="Measure at least one run.")
    path_a = Path(a)
    path_b = _baseline_of(path_a) if b is None else Path(b)
    machine = describe_machine()
    notes = _busy_note(machine.cores)

    a_session, b_session, a_load, b_load = _load_both(path_a, path_b, threads, provider)
    inputs = list(images) if images is not None else [_common_input(a_session, b_session, seed)]
    if not inputs:
        raise InputError("no images were given", hint="Leave images out to run on random data.")

    cpu, wall, order = time_pairs(
        [partial(a_session.run, image) for image in inputs],
        [partial(b_session.run, image) for image in inputs],
        runs=runs,
        warmup=warmup,
        seed=seed,
        progress=progress,
    )

    if a_session.backend != b_session.backend:
        notes.append("A and B ran on different runtimes: the ratio compares those as well.")
    shape = tuple(inputs[0].shape)
    sides = []
    for column, (session, load) in enumerate(((a_session, a_load), (b_session, b_load))):
        peak, note = _peak(session, threads, shape) if memory else (None, "")
        notes += [f"No peak memory for {'AB'[column]}: {note}."] if note else []
        notes += _foreign_target_note("AB"[column], session)
        sides.append(
            Variant(
                name=_name(session),
                path=str(session.path),
                backend=session.backend,
                cpu=timing(cpu[:, column]),
                wall=timing(wall[:, column]),
                load_ms=load,
                file_bytes=_file_bytes(session.path),
                peak_bytes=peak,
                bits=_bits(session.manifest),
                power=average_power(
                    partial(session.run, inputs[0]), gpu=not _is_onnx(session.path)
                ),
            )
        )
    side_a, side_b = sides
    if b is None:  # the baseline's file knows neither its role nor its bits
        side_b = replace(side_b, name="published", bits=Bits("w32a32", "w32a32"))
    peaks = side_a.peak_bytes, side_b.peak_bytes
    return Comparison(
        a=side_a,
        b=side_b,
        cpu_ratio=bootstrap_ratio(cpu[:, 1], cpu[:, 0], seed=seed),
        wall_ratio=bootstrap_ratio(wall[:, 1], wall[:, 0], seed=seed),
        memory_ratio=peaks[1] / peaks[0] if peaks[0] and peaks[1] else None,
        size_ratio=side_b.file_bytes / side_a.file_bytes,
        order=order,
        threads=threads,
        warmup=warmup,
        seed=seed,
        input_shape=shape,
        input_source="random" if images is None else "images",
        machine=machine,
        notes=tuple(notes),
    )


def _baseline_of(path: Path) -> Path:
    baseline = open_bundle(path).baseline if path.is_dir() else None
    if baseline is None:
        raise InputError(
            f"{path} carries no uncompressed network to compare with",
            hint="Name one: waveedge bench A --vs B",
        )
    return baseline


def _busy_note(cores: int) -> list[str]:
    if not hasattr(os, "getloadavg"):
        return []
    load = os.getloadavg()[0]
    # One busy core is what a shell that just finished an export looks like.
    return (
        [f"The machine was busy (load {load:.1f} on {cores} cores): times are not its best."]
        if load > 0.5 * cores + 1
        else []
    )


def _foreign_target_note(side: str, session: Session) -> list[str]:
    """Warn where a graph made for TensorRT was timed on onnxruntime."""
    target = str((session.manifest or {}).get("target", ""))
    if not target.startswith("trt") or not _is_onnx(session.path):
        return []
    return [
        f"{side} was exported for {target} and ran on onnxruntime: these times say nothing about "
        "the engine's. Measure on the device, or export with --target ort for this machine."
    ]


def _load_both(
    a: Path, b: Path, threads: int, provider: str
) -> tuple[Session, Session, float, float]:
    """Load both several times in turn: the process's first load pays for onnxruntime's start."""
    loads: list[tuple[float, float]] = []
    for _ in range(_LOADS):
        a_session = Session(a, threads=threads, provider=provider)
        b_session = Session(b, threads=threads, provider=provider)
        loads.append((a_session.load_seconds * 1000, b_session.load_seconds * 1000))
    a_loads, b_loads = zip(*loads, strict=True)
    return a_session, b_session, statistics.median(a_loads), statistics.median(b_loads)


def _common_input(a: Session, b: Session, seed: int) -> Array:
    """Make one random input that both networks take; a size that one fixes fits the other."""
    if len(a.input_shape) != len(b.input_shape) or a.input_dtype != b.input_dtype:
        raise InputError(
            f"the networks take different inputs: {a.input_dtype} {a.input_shape} and "
            f"{b.input_dtype} {b.input_shape}",
            hint="Compare two exports of the same task.",
        )
    shape = [
        two if isinstance(one, str) else one
        for one, two in zip(a.input_shape, b.input_shape, strict=True)
    ]
    if isinstance(shape[0], str):
        shape[0] = 1
    if any(isinstance(size, str) for size in shape):
        return a.example_input(seed=seed)  # explains that the size is open
    image = a.example_input([int(size) for size in shape], seed=seed)
    b.check(image)
    return image


def _peak(session: Session, threads: int, shape: tuple[int, ...]) -> tuple[int | None, str]:
    if not _is_onnx(session.path):
        return None, "an engine's activations lie in GPU memory"
    # Imported here: a module that runs as a program must not be loaded with its package.
    from waveedge.runtime.memory import peak_memory

    peak = peak_memory(session.path, threads=threads, shape=shape)
    return peak.peak_bytes, peak.note


def _is_onnx(path: Path) -> bool:
    return path.suffix in (".onnx", ".ort")


def _name(session: Session) -> str:
    return str((session.manifest or {}).get("name") or session.path.stem)


def _file_bytes(path: Path) -> int:
    external = path.with_name(f"{path.name}.data")  # where exporters put large weights
    return path.stat().st_size + (external.stat().st_size if external.is_file() else 0)


def _bits(manifest: Mapping[str, Any] | None) -> Bits | None:
    """Summarise the manifest's layers: every distinct pair of bits, widest first."""
    layers = (manifest or {}).get("layers") or []
    if not layers:
        return None

    def text(kind: str) -> str:
        pairs = {(layer[kind]["weight_bits"], layer[kind]["activation_bits"]) for layer in layers}
        return ", ".join(f"w{weight}a{activation}" for weight, activation in sorted(pairs)[::-1])

    return Bits(text("requested"), text("executed"))
