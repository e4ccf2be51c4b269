"""``python -m benchmarks.activations``: GELU and LayerNorm between int8 convolutions, every form.

One thread, CPU time. Each form of a chain is timed in pairs with the chain that leaves the
activation in float, as exporters do, so ratios hold while the machine drifts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.activation_graphs import GELU, LAYER_NORM, STEP, Case, alone, chain, gelu
from benchmarks.activation_tables import render
from benchmarks.operators import is_integer
from benchmarks.records import Record, Records, write_text
from waveedge.console import say
from waveedge.export.layers import optimised_by_onnxruntime
from waveedge.runtime import Session
from waveedge.runtime.pairs import bootstrap_ratio, time_pairs

RESULTS = Path(__file__).resolve().parent / "results"
FORMS = {"GELU": GELU, "LayerNorm": LAYER_NORM}
CASES = (
    Case("WTConvNeXt-T, stage 1", 96, 384, (56, 56)),
    Case("WTConvNeXt-T, stage 2", 192, 768, (28, 28)),
    Case("WTConvNeXt-T, stage 3", 384, 1536, (14, 14)),
    Case("WaveMix segmenter", 128, 256, (32, 64)),
)
FLOAT, NONE = "float", "none"  # the first and the last form of each
WARMUP = 5
STEP_MS = 4  # CPU time of what is timed at once; shorter measures the clock

Array = NDArray[Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print every table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one shape, 3 rounds")
    parser.add_argument("--rounds", type=int, help="pairs of runs a form (60; quick: 3)")
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    given = parser.parse_args(arguments)
    # Kept apart: the figures of a quick run must not pass for others.
    quick_out = Path("build") / "benchmarks" / "quick" / "results"
    out: Path = given.out or (quick_out if given.quick else RESULTS)
    rounds = given.rounds or (3 if given.quick else 60)

    path = out / "activations.json"
    path.unlink(missing_ok=True)
    records = Records(path, ("activation", "case", "form"))
    for activation in FORMS:
        for case in CASES[-1:] if given.quick else CASES:
            for record in _measure(activation, case, rounds):
                records.add(record)
    text = render(records.rows)
    write_text(out / "activations.md", text)
    print(text)
    return 0


def _measure(activation: str, case: Case, rounds: int) -> list[Record]:
    records = []
    with tempfile.TemporaryDirectory() as folder:
        image = _image((1, case.channels, *case.size))
        base = _load(chain(case, activation, FLOAT), Path(folder) / "float.onnx")
        repeats = _repeats(base, image)
        for form in FORMS[activation]:
            say(f"{activation}, {case.name}: {form}")
            model = Path(folder) / "form.onnx"
            session = _load(chain(case, activation, form), model)
            steps = [partial(_run, one, image, repeats) for one in (base, session)]
            cpu, _, _ = time_pairs(steps[:1], steps[1:], runs=rounds, warmup=WARMUP, seed=0)
            base_ms, form_ms = np.median(cpu, axis=0) / repeats
            operators = _operators(model)
            records.append(
                {
                    "activation": activation,
                    "case": case.name,
                    "form": form,
                    "channels": case.channels,
                    "hidden": case.hidden,
                    "size": case.size,
                    "speed": asdict(bootstrap_ratio(cpu[:, 0], cpu[:, 1], seed=0)),
                    "cpu_ms": float(form_ms),
                    "float_cpu_ms": float(base_ms),
                    **_error(activation, form, case),
                    "integer_operators": sum(map(is_integer, operators.elements())) - 2,
                    "operators": operators,
                    "rounds": rounds,
                    "runs_per_round": repeats,
                }
            )
    # Differences of ratios to the same chain, not of times: those were taken minutes apart.
    typical = float(np.median([record["float_cpu_ms"] for record in records]))
    free = next(record["speed"]["value"] for record in records if record["form"] == NONE)
    for record in records:
        record["activation_ms"] = typical * (1 / record["speed"]["value"] - 1 / free)
    return records


def _load(model: bytes, path: Path) -> Session:
    path.write_bytes(model)
    return Session(path, threads=1, provider="cpu")


def _run(session: Session, image: Array, repeats: int) -> None:
    for _ in range(repeats):
        session.run(image)


def _repeats(session: Session, image: Array) -> int:
    step = [partial(_run, session, image, 1)]
    cpu, _, _ = time_pairs(step, step, runs=5, warmup=WARMUP, seed=0)
    return ceil(STEP_MS / float(np.median(cpu)))


def _operators(model: Path) -> Counter[str]:
    """Operators of the graph as onnxruntime optimised it."""
    optimised = optimised_by_onnxruntime(model.read_bytes())
    found = Counter(node.op_type for node in optimised.graph.node)
    # Q/DQ on every tensor must have fused at least both convolutions, or ratios mean nothing.
    if found["QLinearConv"] < 2 or found["Conv"]:
        raise RuntimeError(f"a convolution stayed in float: {dict(found)}")
    return found


def _image(shape: tuple[int, ...]) -> Array:
    """Standard normal, on the grid; a position's gain and offset vary, as LayerNorm expects."""
    random = np.random.default_rng(0)
    position = (shape[0], 1, *shape[2:])
    gain, offset = np.exp(random.normal(0, 0.25, position)), random.normal(0, 0.25, position)
    return _bytes(random.standard_normal(shape) * gain + offset)


def _bytes(values: Array) -> Array:
    return np.asarray(np.clip(np.rint(values / STEP) + 128, 0, 255), np.uint8)


def _error(activation: str, form: str, case: Case) -> Record:
    """Steps between what a form computes and the exact activation of the same bytes."""
    if form == NONE:
        return {"max_error_steps": None, "rms_error_steps": None}
    x: Array
    if activation == "GELU":
        # Every byte there is, each weighted by how often a standard normal takes it.
        q = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
        x = (q - 128.0) * STEP
        exact, weight = gelu(x), np.exp(-(x**2) / 2)
    else:
        q = _image((1, case.channels, *case.size))
        x = (q - 128.0) * STEP
        exact = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        exact = np.clip(exact, -128 * STEP, 127 * STEP)  # beyond, every form saturates alike
        weight = np.ones(x.shape)
    with tempfile.TemporaryDirectory() as folder:
        session = _load(alone(activation, form, q.shape), Path(folder) / "alone.onnx")
        found = session.run(q)
    assert isinstance(found, np.ndarray)
    error = (found - 128.0) - exact / STEP
    return {
        "max_error_steps": float(np.abs(error).max()),
        "rms_error_steps": float(np.sqrt(np.average(error**2, weights=weight))),
    }


if __name__ == "__main__":
    sys.exit(main())
