"""Run a graph on batches of images, to see whether it computes what it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from waveedge.export.widening import rounded
from waveedge.runtime.machine import int8_saturates

__all__ = ["Run", "run_onnxruntime", "run_rounded"]

Run = Callable[[onnx.ModelProto, Sequence[NDArray[np.float32]]], list[list[NDArray[Any]]]]
"""Runs a graph of one input on batches (N, C, H, W); yields all outputs of each."""


def run_onnxruntime(
    graph: onnx.ModelProto, batches: Sequence[NDArray[np.float32]]
) -> list[list[NDArray[Any]]]:
    """On the CPU, as onnxruntime optimises the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if (
        _has(graph, onnx.TensorProto.FLOAT16)
        or _rounds(graph)
        or (int8_saturates() and _has(graph, onnx.TensorProto.INT8, maps=True))
    ):
        # Executed as it is written: onnxruntime has no integer kernels between 16 bits, but rounds
        # wherever the graph does. For int8 see passes/uint8_weights.py.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return [list(session.run(None, {name: batch})) for batch in batches]


def run_rounded(
    graph: onnx.ModelProto, batches: Sequence[NDArray[np.float32]]
) -> list[list[NDArray[Any]]]:
    """A graph in bfloat16, by its float32 twin: onnxruntime has no kernels for it on a CPU."""
    return run_onnxruntime(ir.to_proto(rounded(ir.from_proto(graph))), batches)


def _rounds(graph: onnx.ModelProto) -> bool:
    """Whether a float32 graph rounds to bfloat16 on the way."""
    return any(
        node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.BFLOAT16
        for node in graph.graph.node
    )


def _has(graph: onnx.ModelProto, kind: int, *, maps: bool = False) -> bool:
    return any(
        tensor.data_type == kind and (len(tensor.dims) > 1 or not maps)
        for tensor in graph.graph.initializer
    )
