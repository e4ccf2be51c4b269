"""A graph cut at its quantizers and selections, so that every part can be compared by itself.

Rounding makes a deep quantized network sensitive: a value on the border of two steps, rounded the
other way, moves others across their borders. End to end, a right graph may thus differ as much as
one with a small fault. Cut at the quantizers, it cannot: every DequantizeLinear of an activation is
taken out and its output is fed from torch, so that the stretch up to the next quantizer starts from
equal numbers, and the integers that this quantizer writes must be torch's. The indices that a TopK
gives are fed from torch too: among coefficients of equal energy, either choice is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from waveedge.export.origins import Call, call_of, offset_of
from waveedge.nn import ActivationQuantizer, Selection

__all__ = ["Comparison", "Recording", "compare_subgraphs", "recording"]

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """What the discontinuous modules of a network gave in one run.

    Attributes:
        values: outputs of the activation quantizers.
        integers: the same as integers of the grid.
        steps: of their grids.
        selected: indices (N, k, tiles) that WCC layers selected.
    """

    values: dict[Call, Floats]
    integers: dict[Call, Indices]
    steps: dict[Call, np.float32]
    selected: dict[Call, Indices]


@dataclass(frozen=True)
class Comparison:
    """How a cut graph compares with torch.

    Attributes:
        outputs: name -> the graph's outputs that are computed, not fed.
        equal: per quantizer, the share of integers that are torch's.
        largest_step: largest difference between two integers.
        energy: per selection, the energy that torch's choice and the graph's own keep: the
            smaller divided by the larger.
    """

    outputs: dict[str, Floats]
    equal: dict[Call, float]
    largest_step: int
    energy: dict[Call, float]


@contextmanager
def recording(model: nn.Module, *, quantizers: bool = True) -> Iterator[Recording]:
    """Records the discontinuous modules of a model while the block runs it once.

    Args:
        quantizers: False records selections alone, which need little memory.
    """
    found = Recording({}, {}, {}, {})
    handles = []

    def after_quantizer(path: str) -> Any:
        def hook(layer: ActivationQuantizer, _inputs: Any, output: torch.Tensor) -> None:
            call = _next_call(found.values, path)
            found.values[call] = output.detach().numpy()
            found.integers[call] = torch.round(output / layer.scale).detach().long().numpy()
            found.steps[call] = np.float32(layer.scale.detach().item())

        return hook

    def before_selection(path: str) -> Any:
        def hook(layer: Selection, inputs: tuple[torch.Tensor]) -> None:
            indices = layer.indices(inputs[0])
            if indices is not None:
                found.selected[_next_call(found.selected, path)] = indices.numpy()

        return hook

    for path, module in model.named_modules():
        if isinstance(module, ActivationQuantizer) and quantizers:
            handles.append(module.register_forward_hook(after_quantizer(path)))
        elif isinstance(module, Selection):
            handles.append(module.register_forward_pre_hook(before_selection(path)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def compare_subgraphs(graph: onnx.ModelProto, x: Floats, torch_run: Recording) -> Comparison:
    """Runs a cut graph on ``x`` (N, C, H, W) and on the values recorded in torch.

    The nodes carry their origins as metadata, and are executed as they are written, without
    onnxruntime's optimisations.
    """
    import onnxruntime

    quantizers = {
        call: node
        for call, node in _activation_quantizers(graph).items()
        if call in torch_run.values
    }
    selections = {
        call: node
        for node in graph.graph.node
        if node.op_type == "TopK" and (call := call_of(node, "TopK")) in torch_run.selected
    }
    fed: dict[str, NDArray[Any]] = {
        node.output[0]: torch_run.values[call] - np.float32(offset_of(node)) * torch_run.steps[call]
        for call, node in quantizers.items()
    }
    fed |= {node.output[1]: torch_run.selected[call] for call, node in selections.items()}
    outputs = [value.name for value in graph.graph.output if value.name not in fed]
    wanted = [
        *outputs,
        *(node.input[0] for node in quantizers.values()),
        *(node.input[0] for node in selections.values()),
        *(f"{node.output[1]}{_OWN}" for node in selections.values()),
    ]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    cut = _cut_graph(graph, fed, list(dict.fromkeys(wanted)))
    session = onnxruntime.InferenceSession(
        cut.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    fed[graph.graph.input[0].name] = x
    got = dict(zip(wanted, session.run(wanted, fed), strict=True))

    steps = {
        call: got[node.input[0]].astype(np.int64)
        - _zero_point(graph, node)
        + offset_of(node)
        - torch_run.integers[call]
        for call, node in quantizers.items()
    }
    return Comparison(
        outputs={name: got[name] for name in outputs},
        equal={call: float(np.mean(step == 0)) for call, step in steps.items()},
        largest_step=max((int(np.abs(step).max(initial=0)) for step in steps.values()), default=0),
        energy={
            call: _same_energy(
                got[node.input[0]], torch_run.selected[call], got[f"{node.output[1]}{_OWN}"]
            )
            for call, node in selections.items()
        },
    )


_OWN = "/own"
"""Ending of the indices that a TopK of the cut graph finds itself, and that nothing reads."""


def _next_call(known: dict[Call, Any], path: str) -> Call:
    return path, sum(other == path for other, _ in known)


def _same_energy(energy: Floats, wanted: Indices, got: Indices) -> float:
    """The energy (N, positions, tiles) that one choice keeps, relative to what the other keeps."""
    kept = [
        float(np.take_along_axis(energy, indices, axis=1).sum(dtype=np.float64))
        for indices in (wanted, got)
    ]
    return min(kept) / max(kept) if max(kept) else 1.0


def _activation_quantizers(graph: onnx.ModelProto) -> dict[Call, onnx.NodeProto]:
    """The DequantizeLinear nodes that restore activations, by the quantizer they belong to."""
    computed = {name for node in graph.graph.node for name in node.output}
    return {
        call: node
        for node in graph.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in computed
        and (call := call_of(node, "FakeQuantize")) is not None
    }


def _zero_point(graph: onnx.ModelProto, node: onnx.NodeProto) -> int:
    (tensor,) = (one for one in graph.graph.initializer if one.name == node.input[2])
    return int(numpy_helper.to_array(tensor))


def _cut_graph(
    graph: onnx.ModelProto, fed: dict[str, NDArray[Any]], outputs: list[str]
) -> onnx.ModelProto:
    """The graph with the values of ``fed`` as further inputs, and other outputs."""
    cut = onnx.ModelProto()
    cut.CopyFrom(graph)
    kept = []
    for node in cut.graph.node:
        if node.output[0] in fed:
            continue
        for index, name in enumerate(node.output):
            if name in fed:
                node.output[index] = f"{name}{_OWN}"
        kept.append(node)
    del cut.graph.node[:], cut.graph.output[:]
    cut.graph.node.extend(kept)
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
    cut.graph.input.extend(
        helper.make_tensor_value_info(name, kinds[data.dtype.kind], None)
        for name, data in fed.items()
    )
    cut.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return cut
