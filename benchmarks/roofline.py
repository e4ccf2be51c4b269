"""What this machine can do at most, measured: arithmetic on registers, matrix products, copies.

The roofline (Williams, Waterman and Patterson 2009): no network takes less time than its
multiply-adds at the peak rate, nor less than its bytes at the bandwidth of memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peaks import RegisterPeaks, register_peaks
from benchmarks.records import Record
from waveedge.runtime import Session

__all__ = ["Peaks", "measure_peaks"]

SIZES = (512, 1024, 2048)
COPY_BYTES = 1 << 28
_REPEATS = 5


@dataclass(frozen=True)
class Peaks:
    """The best rates seen, in 10^9 multiply-adds a second.

    Attributes:
        threads: at which they were measured.
        float32_gmacs: on registers alone; the library's where no C compiler can tell.
        int8_gmacs: the same of int8.
        int8_instructions: that int8 was computed with; None where it is the library's rate.
        float32_library_gmacs: of onnxruntime's ``MatMul``.
        int8_library_gmacs: of its ``QLinearMatMul``, uint8 by uint8 or int8, the better.
        copy_gb: 10^9 bytes a second, read and written, of copying blocks beyond the caches.
    """

    threads: int
    float32_gmacs: float
    int8_gmacs: float
    int8_instructions: str | None
    float32_library_gmacs: float
    int8_library_gmacs: float
    copy_gb: float

    def seconds(self, macs: float, bytes_: float, *, int8: bool) -> float:
        """Least time that a network of so many multiply-adds and bytes can take."""
        rate = self.int8_gmacs if int8 else self.float32_gmacs
        return max(macs / (rate * 1e9), bytes_ / (self.copy_gb * 1e9))

    def to_dict(self) -> Record:
        """Return the fields as plain JSON."""
        return asdict(self)


def measure_peaks(
    threads: int, *, sizes: tuple[int, ...] = SIZES, repeats: int = _REPEATS
) -> Peaks:
    """Measure the peaks with ``peaks.c``, through onnxruntime, and with numpy; some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        float32, uint8, int8 = (
            max(
                size**3 / _best(_product(Path(folder), size, threads, kind), repeats)
                for size in sizes
            )
            / 1e9
            for kind in (np.float32, np.uint8, np.int8)
        )
    registers = register_peaks(threads) or RegisterPeaks(float32, max(uint8, int8), None)
    return Peaks(
        threads=threads,
        **asdict(registers),
        float32_library_gmacs=float32,
        int8_library_gmacs=max(uint8, int8),
        copy_gb=_copy_rate(threads, repeats) / 1e9,
    )


def _best(run: Callable[[], object], repeats: int) -> float:
    """Shortest wall time in seconds."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _product(folder: Path, size: int, threads: int, kind: Any) -> Callable[[], object]:
    """Write a product of a square matrix with a constant one of type ``kind``; return its run."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    constants: dict[str, Any]
    path = folder / f"product-{size}-{kind.__name__}.onnx"
    if kind is np.float32:
        left = rng.standard_normal((size, size), np.float32)
        constants = {"b": rng.standard_normal((size, size), np.float32)}
        node = helper.make_node("MatMul", ["a", "b"], ["c"])
        element = TensorProto.FLOAT
    else:
        left = rng.integers(0, 256, (size, size), np.uint8)
        constants = {
            "b": rng.integers(0, 128, (size, size)).astype(kind),
            "scale": np.float32(0.01),
            "zero": np.uint8(128),
            "zero_b": kind(0),
        }
        names = ["a", "scale", "zero", "b", "scale", "zero_b", "scale", "zero"]
        node = helper.make_node("QLinearMatMul", names, ["c"])
        element = TensorProto.UINT8
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", element, (size, size))],
        [helper.make_tensor_value_info("c", element, (size, size))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    save(model, path)
    session = Session(path, threads=threads, provider="cpu")
    return lambda: session.run(left)


def _copy_rate(threads: int, repeats: int) -> float:
    """Bytes a second that ``threads`` copies at once read and write."""
    count = COPY_BYTES // threads
    pairs = [(np.zeros(count, np.uint8), np.ones(count, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:  # numpy copies without holding Python's lock
        best = _best(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)), repeats)
    return 2 * count * threads / best
