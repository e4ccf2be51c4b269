"""Where a network takes memory: weights, activations, an engine's context, process, board."""

from __future__ import annotations

from collections.abc import Sequence

from waveedge.runtime.cuda import gpu_count, shares_memory
from waveedge.runtime.figures import Footprint
from waveedge.runtime.manifest import OPENVINO
from waveedge.runtime.session import Session

__all__ = ["footprint"]

Known = tuple[int | None, str]
"""A figure with how it was measured, or None with why it was not."""


def footprint(session: Session, *, threads: int, shape: Sequence[int]) -> Footprint:
    """Measure what a network takes, partly in a process of its own.

    Args:
        threads: of the runtime.
        shape: of the first input.
    """
    activation, process, board = _measured_alone(session, threads, shape)
    weights, context = _weights(session), _context(session)
    kinds = ("weights", "activation", "context", "process", "board")
    figures = (weights, activation, context, process, board)
    return Footprint(
        weights_bytes=weights[0],
        activation_bytes=activation[0],
        context_bytes=context[0],
        process_bytes=process[0],
        board_bytes=board[0],
        how={kind: how for kind, (_, how) in zip(kinds, figures, strict=True)},
    )


def _weights(session: Session) -> Known:
    size = session.file_bytes
    if session.provider == "torch":
        return size, "parameters and buffers, as they lie in memory"
    if session.engine is None:
        return size, "the file, and what lies beside it"
    weights = session.engine.weights_bytes
    if weights is None:
        return size, "the serialized engine, kernels included: before 10.16 TensorRT tells no more"
    return weights, "as TensorRT counts them"


def _context(session: Session) -> Known:
    if session.engine is None:
        return None, "only an engine has an execution context"
    size = session.engine.context_bytes
    if size < 0:
        return None, "other programs gave memory back while it was made"
    return size, "free device memory before the execution context was made, less that after it"


def _measured_alone(
    session: Session, threads: int, shape: Sequence[int]
) -> tuple[Known, Known, Known]:
    """Activations, process and board."""
    engine = session.engine is not None
    if why := _not_alone(session):
        return (None, why), (None, why), (None, why)
    # Imported here: a module that runs as a program must not be loaded with its package.
    from waveedge.runtime.memory import peak_memory

    openvino = session.provider in OPENVINO
    provider = session.provider if engine or openvino else "cpu"
    probe = peak_memory(session.path, threads=threads, shape=shape, provider=provider)
    activation: Known = probe.peak_bytes, probe.note or "resident memory that runs add, at its peak"
    if engine:
        activation = session.activation_bytes, "what TensorRT sets aside on the GPU"
    elif openvino:
        why = "OpenVINO keeps its memory between runs, so that none is seen to be added"
        activation = None, why
    process: Known = None, probe.note
    if probe.process_bytes is not None:
        process = probe.process_bytes, "a fresh process that loads and runs it, libraries included"
    return activation, process, _board(probe.board_bytes, probe.note)


def _not_alone(session: Session) -> str:
    """Why no process of its own can tell what a network takes; empty where one can."""
    if session.engine is not None:
        return ""
    if session.provider == "torch":
        return "a module in memory cannot be run in a process of its own"
    if session.on_gpu:
        return "onnxruntime does not tell what it takes on a GPU"
    if session.manifest is not None and session.manifest["precision"] == "float16":
        return "onnxruntime widens float16 on the CPU, which says nothing of an engine"
    return ""


def _board(size: int | None, note: str) -> Known:
    if not shares_memory():
        return None, (
            "the GPU has memory of its own" if gpu_count() else "no GPU shares this memory"
        )
    if size is None:
        return None, note
    if size < 0:
        return None, "other programs gave memory back meanwhile"
    return size, "available memory before that process loaded anything, less that after its runs"
