"""Run one network on the runtime that it was made for, one thread, an image at a time.

    python -I peer_runner.py RUNTIME FILE '{"option": "value"}'

Imports nothing of waveedge or of this package. Reads images and answers each with the times it
took and the output, until standard input ends: arrays in numpy's format behind their length in 8
bytes, first ``(CPU ms, wall ms)``, then the output. What libraries print goes to standard error.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

Run = Callable[[Any], Any]


def openvino(file: Path, *, precision: str = "f32", **_: Any) -> Run:
    """As its documentation advises for latency; quantized layers compute in int8 either way."""
    import openvino as package  # type: ignore[import-not-found, unused-ignore]

    core = package.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in able:
        raise SystemExit("this CPU has no bfloat16 arithmetic (AVX512_BF16 or AMX)")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(file, "CPU", settings).create_infer_request()
    return lambda image: request.infer([image], share_inputs=True, share_outputs=True)[0]


def ncnn(file: Path) -> Run:
    """float32 throughout: ncnn's half-precision storage is for Arm."""
    import ncnn as package  # type: ignore[import-not-found]

    net = package.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    if net.load_param(str(file)) or net.load_model(str(file.with_suffix(".bin"))):
        raise SystemExit("ncnn cannot load what pnnx made of the network")

    def run(image: Any) -> Any:
        with net.create_extractor() as extractor:
            extractor.input("in0", package.Mat(image[0]).clone())
            status, found = extractor.extract("out0")
            if status:
                raise SystemExit(f"ncnn cannot run the network (status {status})")
            return np.array(found)[None]

    return run


def mnn(file: Path) -> Run:
    """float32: ``precision: high`` keeps MNN from half precision and bfloat16."""
    import MNN  # type: ignore[import-not-found]

    runtime = MNN.nn.create_runtime_manager(
        ({"backend": "CPU", "numThread": 1, "precision": "high"},)
    )
    net = MNN.nn.load_module_from_file(str(file), [], [], runtime_manager=runtime)

    def run(image: Any) -> Any:
        given = MNN.expr.placeholder(image.shape, MNN.expr.NCHW)
        given.write(image)
        found = net.forward([given])[0]
        return np.array(MNN.expr.convert(found, MNN.expr.NCHW).read())

    return run


def inductor(file: Path, *, freeze: bool) -> Run:
    """``torch.compile``; weights frozen into the code as torch advises for inference."""
    import torch
    import torch._inductor.config as config

    torch.set_num_threads(1)
    config.freezing = freeze
    network = torch.compile(torch.export.load(file).module())

    def run(image: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(image)).numpy()

    return run


RUNTIMES: dict[str, Callable[..., Run]] = {
    "openvino": openvino,
    "ncnn": ncnn,
    "mnn": mnn,
    "inductor": inductor,
}


def receive(stream: IO[bytes]) -> Any:
    """Return the next array, or None at the end."""
    length = int.from_bytes(stream.read(8), "little")
    return np.load(io.BytesIO(stream.read(length))) if length else None


def send(stream: IO[bytes], array: Any) -> None:
    """Write one array."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array))
    stream.write(len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue())
    stream.flush()


def main() -> None:
    """Serve the network that the command line names."""
    runtime, file, options = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    run = RUNTIMES[runtime](Path(file), **json.loads(options))
    while (image := receive(sys.stdin.buffer)) is not None:
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        output = run(image)
        cpu_end, wall_end = time.process_time(), time.perf_counter()
        send(answers, [1000 * (cpu_end - cpu_start), 1000 * (wall_end - wall_start)])
        send(answers, output)


if __name__ == "__main__":
    main()
