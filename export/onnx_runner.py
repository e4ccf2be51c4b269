"""Run a graph on batches of images, to see whether it computes what it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from waveedge.runtime.machine import int8_saturates

__all__ = ["Run", "run_onnxruntime"]

Run = Callable[[onnx.ModelProto, Sequence[NDArray[np.float32]]], list[list[NDArray[Any]]]]
"""Runs a graph of one input on batches (N, C, H, W); yields all outputs of each."""


def run_onnxruntime(
    graph: onnx.ModelProto, batches: Sequence[NDArray[np.float32]]
) -> list[list[NDArray[Any]]]:
    """On the CPU, as onnxruntime optimises the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if int8_saturates() and _has_int8_weights(graph):
        # Meant for another processor, and executed as it is written: see passes/uint8_weights.py.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return [list(session.run(None, {name: batch})) for batch in batches]


def _has_int8_weights(graph: onnx.ModelProto) -> bool:
    return any(
        tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
        for tensor in graph.graph.initializer
    )
