"""Where the time of a network goes in onnxruntime, by type of operator."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waveedge.runtime.backend import session_options

__all__ = ["is_integer", "operator_shares"]


def operator_shares(
    model: Path, image: NDArray[np.float32], *, runs: int = 10
) -> Sequence[tuple[str, float]]:
    """Profile ``model`` on one thread.

    Returns:
        (operator, share of the time of all operators), largest first. Operators are those of the
        graph as onnxruntime optimised it.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        for _ in range(runs):
            session.run(None, {name: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"]
    total = sum(times.values()) or 1
    return [(operator, time / total) for operator, time in times.most_common()]


def is_integer(operator: str) -> bool:
    """Whether an operator computes with int8 numbers, as far as its name tells."""
    return operator.startswith(("QLinear", "QGemm", "MatMulInteger", "ConvInteger"))
