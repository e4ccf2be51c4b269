"""A weight disturbed by any pass over the graph stops the export; nothing is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from waveedge.errors import VerificationError
from waveedge.export import bundle
from waveedge.export.bundle import export_model

PASSES = (
    "fold_weights",
    "absorb_paddings",
    "pool_means",
    "unfold_norms",
    "merge_groups",
    "linear_to_gemm",
    "round_biases",
    "encode_ort",
    "integer_sigmoids",
    "fold_stems",
    "in_pieces",
    "unsigned_weights",
)


def turned(weight: np.ndarray) -> np.ndarray:
    """A weight whose first row has the opposite sign; of uint8, about its zero point."""
    changed = weight.copy()
    changed[0] = 255 - weight[0] if weight.dtype == np.uint8 else -weight[0]
    return changed


def disturb(graph: ir.Model | onnx.ModelProto) -> None:
    """Change the largest weight of a graph, in whichever form it has by now."""
    if isinstance(graph, onnx.ModelProto):
        stored = [tensor for tensor in graph.graph.initializer if len(tensor.dims) > 1]
        tensor = max(stored, key=lambda item: np.prod(item.dims))
        changed = turned(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
        return
    read = [value for value in graph.graph.initializers.values() if list(value.uses())]
    value = max((v for v in read if len(v.shape or ()) > 1), key=lambda item: item.const_value.size)
    value.const_value = ir.tensor(turned(value.const_value.numpy()), name=value.name)


@pytest.mark.parametrize("name", PASSES)
def test_a_disturbed_weight_is_never_shipped(
    integers: SimpleNamespace,
    photos: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    right, planted = getattr(bundle, name), []

    def faulty(graph: Any) -> Any:
        result = right(graph)
        disturb(graph if result is None else result)
        planted.append(name)
        return result

    monkeypatch.setattr(bundle, name, faulty)
    monkeypatch.setattr(bundle, "to_onnx", lambda *_, **__: integers.traced)
    monkeypatch.setattr(bundle, "int8_saturates", lambda: True)  # so that every pass runs
    with pytest.raises(VerificationError, match="does not agree with torch"):
        export_model(integers.model, tmp_path / "out", target="ort", images=photos)
    assert planted
    assert list(tmp_path.iterdir()) == []


def test_without_a_fault_it_ships(
    integers: SimpleNamespace, photos: list[np.ndarray], tmp_path: Path
) -> None:
    export_model(integers.model, tmp_path / "out", target="ort", images=photos)
    assert (tmp_path / "out" / "model.onnx").is_file()
