"""Fit a cost profile to the CPU at hand: what moving, interleaving and running cost there.

Four small graphs run in turn with onnxruntime, in float32 on one thread. Each does nearly one thing
alone: multiply, move elements, interleave them, run operators. CPU times are compared, so that what
else runs on the machine matters little.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from waveedge.compression.costs import CostProfile
from waveedge.runtime.machine import describe_machine

__all__ = ["fit_cost"]

Progress = Callable[[int, int], None]

_CHANNELS, _SIZE = 64, 64
_ELEMENTS = _CHANNELS * _SIZE * _SIZE
_NODES = 200
_MACS = _ELEMENTS * _CHANNELS * 9
_ROUNDS = 30


def fit_cost(name: str, *, rounds: int = _ROUNDS, progress: Progress | None = None) -> CostProfile:
    """The prices of this machine's CPU with onnxruntime, in multiply-adds.

    Args:
        name: what the profile is called.
        rounds: how often each graph runs; medians count.
        progress: called with rounds done and rounds in all.
    """
    import onnxruntime

    graphs = (_convolution(), _sum(), _shuffle(), _small_nodes())
    runs = [_session(graph, onnxruntime) for graph in graphs]
    seconds = np.zeros((rounds, len(runs)))
    for done in range(-3, rounds):  # the first ones allocate
        for number, run in enumerate(runs):
            start = time.process_time_ns()
            run()
            if done >= 0:
                seconds[done, number] = (time.process_time_ns() - start) / 1e9
        if progress and done >= 0:
            progress(done + 1, rounds)
    convolution, addition, shuffle, nodes = np.median(seconds, axis=0)
    rate = _MACS / convolution
    element = rate * addition / (3 * _ELEMENTS)  # two read, one written
    machine = describe_machine()
    return CostProfile(
        name=name,
        element=round(float(element), 1),
        shuffle=round(max(0.0, float(rate * shuffle / _ELEMENTS - 2 * element)), 1),
        node=round(float(rate * nodes / _NODES)),
        fitted=f"measured with onnxruntime {onnxruntime.__version__} in float32 on one thread of "
        f"{machine.cpu}: {rate / 1e9:.1f}e9 multiply-adds/s, medians of {rounds} runs",
    )


def _session(graph: onnx.ModelProto, onnxruntime: Any) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    feed = {
        item.name: rng.standard_normal(item.shape, dtype=np.float32)
        for item in session.get_inputs()
    }
    return lambda: session.run(None, feed)


_MAP = (1, _CHANNELS, _SIZE, _SIZE)


def _convolution() -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((_CHANNELS, _CHANNELS, 3, 3), np.float32)
    node = helper.make_node("Conv", ["a", "weight"], ["y"], pads=[1, 1, 1, 1])
    return _model([node], {"a": _MAP}, _MAP, {"weight": weight})


def _sum() -> onnx.ModelProto:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    return _model([node], {"a": _MAP, "b": _MAP}, _MAP)


def _shuffle() -> onnx.ModelProto:
    node = helper.make_node("DepthToSpace", ["a"], ["y"], blocksize=2, mode="DCR")
    return _model([node], {"a": _MAP}, (1, _CHANNELS // 4, 2 * _SIZE, 2 * _SIZE))


def _small_nodes() -> onnx.ModelProto:
    """Convolutions of a few pixels, as at the border of a map."""
    names = ["a", *(f"x{number}" for number in range(_NODES - 1)), "y"]
    nodes = [
        helper.make_node("Conv", [name, "weight"], [result])
        for name, result in itertools.pairwise(names)
    ]
    shape = (1, 8, 1, 16)
    weight = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)
    return _model(nodes, {"a": shape}, shape, {"weight": weight})


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    output: tuple[int, ...],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
) -> onnx.ModelProto:
    def info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "price",
        [info(name, shape) for name, shape in inputs.items()],
        [info("y", output)],
        [numpy_helper.from_array(data, name) for name, data in (weights or {}).items()],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    return model
