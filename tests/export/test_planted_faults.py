"""A weight disturbed by any pass over the graph stops the export; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from waveedge.errors import VerificationError
from waveedge.export import bundle
from waveedge.export.bundle import export_model
from waveedge.export.passes import pipelines


def steps(pass_: ir.passes.PassBase) -> Iterator[ir.passes.PassBase]:
    """The single passes of a pipeline, in order."""
    if isinstance(pass_, ir.passes.Sequential):
        for step in pass_.passes:
            yield from steps(step)
    else:
        yield pass_


KINDS = dict.fromkeys(type(step) for step in steps(pipelines.ort_pipeline(saturates=True)))
PASSES = [kind for kind in KINDS if hasattr(kind, "exact")]  # those that are not onnx-ir's own


def turned(weight: np.ndarray) -> np.ndarray:
    """A weight whose first row has the opposite sign; of uint8, about its zero point."""
    changed = weight.copy()
    changed[0] = 255 - weight[0] if weight.dtype == np.uint8 else -weight[0]
    return changed


def disturb(model: ir.Model) -> None:
    """Change the largest weight of a graph, in whichever form it has by now."""
    read = [value for value in model.graph.initializers.values() if list(value.uses())]
    value = max((v for v in read if len(v.shape or ()) > 1), key=lambda item: item.const_value.size)
    value.const_value = ir.tensor(turned(value.const_value.numpy()), name=value.name)


@pytest.mark.parametrize("kind", PASSES, ids=lambda kind: kind.__name__)
def test_a_disturbed_weight_is_never_shipped(
    integers: SimpleNamespace,
    photos: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[ir.passes.PassBase],
) -> None:
    right, planted = kind.call, []

    def faulty(pass_: ir.passes.PassBase, model: ir.Model) -> ir.passes.PassResult:
        result = right(pass_, model)
        if not planted:  # once: of a pass that runs twice, the second time would undo the first
            disturb(result.model)
            planted.append(pass_)
        return result

    monkeypatch.setattr(kind, "call", faulty)
    monkeypatch.setattr(bundle, "to_onnx", lambda *_, **__: integers.traced)
    monkeypatch.setattr(pipelines, "int8_saturates", lambda: True)  # so that every pass runs
    with pytest.raises(VerificationError, match="does not agree with torch"):
        export_model(integers.model, tmp_path / "out", target="ort", images=photos)
    assert planted
    assert list(tmp_path.iterdir()) == []


def test_without_a_fault_it_ships(
    integers: SimpleNamespace, photos: list[np.ndarray], tmp_path: Path
) -> None:
    export_model(integers.model, tmp_path / "out", target="ort", images=photos)
    assert (tmp_path / "out" / "model.onnx").is_file()
