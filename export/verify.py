"""Is the exported network the torch network? Both run on the same images, and are compared.

A float graph differs from the user's own network by the order of additions alone: its largest error
may be 1e-4 of the largest output, and its signal-to-noise ratio is 100 dB. A quantized graph is
checked against the artifact, in two ways; how far it is from the user's network is stated beside:

* *Cut* at its quantizers and selections (:mod:`~waveedge.export.subgraphs`) and executed as it is
  written. At every quantizer 3 of 4 integers must be torch's, and none more than one step off: all
  are equal, unless a bias is rounded to int32 here, which moves some by one step. A top-k
  selection (WCC) must keep the same energy to 1e-4. From the last quantizers to the outputs, 40 dB.
* *Whole*, as onnxruntime optimises it. A few values on the border of two steps round the other way,
  or coefficients of nearly equal energy swap, and make others do so; the signal-to-noise ratio must
  be 30 dB, or no worse than 3 dB below what quantization itself leaves (torch with quantizers
  against torch without). The same holds for a float graph that selects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from waveedge.decibels import psnr_db, snr_db
from waveedge.errors import VerificationError
from waveedge.export.onnx_runner import Run, run_onnxruntime
from waveedge.export.origins import Call, call_of
from waveedge.export.subgraphs import compare_subgraphs, recording
from waveedge.export.verification import Check, Verification
from waveedge.nn import ActivationQuantizer
from waveedge.normalise import flat_outputs
from waveedge.spec import Task

__all__ = ["outputs_of", "verify"]

FLOAT_ERROR = 1e-4
FLOAT_SNR_DB = 100.0
SNR_DB = 30.0
SNR_MARGIN_DB = 3.0
CUT_SNR_DB = 40.0
EQUAL_INTEGERS = 0.75
KEPT_ENERGY = 1 - 1e-4

Array = NDArray[np.float32]
Selections = dict[Call, NDArray[np.int64]]
"""Call of a WCC layer -> indices (N, k, tiles) that it selects."""

_EXACT_DB = 200.0
"""Stands for "no difference at all", which has no decibels."""


def verify(
    model: nn.Module,
    graph: onnx.ModelProto,
    batches: Sequence[Array],
    *,
    shipped: onnx.ModelProto | None = None,
    original: nn.Module | None = None,
    task: Task = "unknown",
    peak: float = 1.0,
    run: Run = run_onnxruntime,
    reduced: bool = False,
) -> Verification:
    """Compares a graph in its runtime with its torch original.

    Args:
        model: the torch module, in eval mode; unchanged on return.
        graph: the exported graph, its nodes' origins as metadata (``lower(...).encoded``).
        batches: inputs (N, C, H, W) float32. The whole graph runs on all of them, the cut graph
            on the first.
        shipped: the graph that is run as a whole, where it is not ``graph``: what a runtime gets,
            with quantizers that the cut no longer recognises.
        original: the user's own network, where it is at hand and is not ``model``.
        task: decides which figures are added.
        peak: range of image outputs (white minus black), for the PSNR.
        run: runs the whole graph, as the target's runtime does.
        reduced: whether floating-point layers run in fewer than 32 bits there.

    Raises:
        VerificationError: a check failed; the message has every failed check.
    """
    wanted, wanted_selections = _run_torch(model, batches)
    got, got_selections = _run_graph(run, shipped or graph, batches, _selections(graph))
    selection = _agreements(wanted_selections, got_selections)
    snr = _worst_snr(wanted, got)
    quantized = any(node.op_type == "DequantizeLinear" for node in graph.graph.node)
    if quantized or selection:
        with _quantizers_off(model):
            plain, _ = _run_torch(model, batches)
        limit = min(SNR_DB, _worst_snr(plain, wanted) - SNR_MARGIN_DB)
        checks = [*_cut_checks(model, graph, batches[0]), Check("whole: SNR, dB", snr, limit)]
    else:
        if original is not None:
            wanted, _ = _run_torch(original, batches)
            snr = _worst_snr(wanted, got)
        error = _worst_relative_error(wanted, got)
        checks = (
            [Check("whole: SNR, dB", snr, SNR_DB)]
            if reduced
            else [
                Check("whole: relative error", error, FLOAT_ERROR, at_most=True),
                Check("whole: SNR, dB", snr, FLOAT_SNR_DB),
            ]
        )
    figures = {
        "max_abs_error": max(float(np.abs(a - b).max()) for a, b in zip(wanted, got, strict=True)),
        "snr_db": snr,
        **_task_figures(wanted[0], got[0], task, peak),
    }
    if original is not None and (quantized or selection):
        published, _ = _run_torch(original, batches)
        figures["snr_db_to_your_network"] = _worst_snr(published, got)
    if selection:
        figures["equal_positions"] = min(selection.values())
    result = Verification(sum(len(batch) for batch in batches), figures, checks, selection)
    if not result.passed:
        failed = "; ".join(str(check) for check in checks if not check.passed)
        raise VerificationError(
            f"the exported network does not agree with torch: {failed}",
            hint="Nothing was written. This is a fault of the export, not of the network: please "
            "report it with the network's configuration.",
        )
    return result


def _cut_checks(model: nn.Module, graph: onnx.ModelProto, batch: Array) -> list[Check]:
    with recording(model) as torch_run, torch.no_grad():
        wanted = _as_list(model(torch.from_numpy(batch)))
    cut = compare_subgraphs(graph, batch, torch_run)
    checks = []
    if cut.energy:
        checks.append(Check("cut: kept energy", min(cut.energy.values()), KEPT_ENERGY))
    if cut.equal:
        checks.append(Check("cut: equal integers", min(cut.equal.values()), EQUAL_INTEGERS))
        checks.append(Check("cut: largest step", cut.largest_step, 1, at_most=True))
    names = [output.name for output in graph.graph.output]
    computed = [
        _bounded(snr_db(signal, cut.outputs[name]))
        for name, signal in zip(names, wanted, strict=True)
        if name in cut.outputs
    ]
    if computed:
        checks.append(Check("cut: SNR, dB", min(computed), CUT_SNR_DB))
    return checks


def _bounded(decibels: float) -> float:
    """JSON has no infinity."""
    return min(max(decibels, -_EXACT_DB), _EXACT_DB)


def _worst_snr(wanted: list[Array], got: list[Array]) -> float:
    """Of the worst output; outputs that differ in number or shape have nothing in common."""
    if [a.shape for a in wanted] != [b.shape for b in got]:
        return -_EXACT_DB
    return _bounded(min(snr_db(a, b) for a, b in zip(wanted, got, strict=True)))


def _worst_relative_error(wanted: list[Array], got: list[Array]) -> float:
    if [a.shape for a in wanted] != [b.shape for b in got]:
        return float("inf")
    errors = [
        float(np.abs(a - b).max()) / max(float(np.abs(a).max()), 1e-12)
        for a, b in zip(wanted, got, strict=True)
    ]
    return float("inf") if np.isnan(errors).any() else max(errors)


def _task_figures(wanted: Array, got: Array, task: Task, peak: float) -> dict[str, float]:
    if task == "classification":
        same = wanted.argmax(axis=-1) == got.argmax(axis=-1)
        return {"argmax_agreement": float(same.mean())}
    if task == "segmentation":
        several = wanted.shape[1] > 1
        classes = [y.argmax(axis=1) if several else y > 0 for y in (wanted, got)]
        return {"pixel_agreement": float((classes[0] == classes[1]).mean())}
    if task in ("super-resolution", "restoration"):
        return {"psnr_db": _bounded(psnr_db(wanted, got, peak))}
    return {}


def _agreements(wanted: Selections, got: Selections) -> dict[str, float]:
    """Per layer, the share of the positions of one selection that the other has too."""
    shares = {}
    for call, indices in wanted.items():
        path, number = call
        pairs = zip(_positions(indices), _positions(got[call]), strict=True)
        share = float(np.mean([np.isin(a, b).mean() for a, b in pairs]))
        shares[path if number == 0 else f"{path} (call {number + 1})"] = share
    return shares


def _positions(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices (N, k, tiles) as positions (N, k * tiles) of the coefficient map."""
    tiles = indices.shape[-1]
    positions: NDArray[np.int64] = indices * tiles + np.arange(tiles)
    return positions.reshape(len(indices), -1)


def outputs_of(model: nn.Module, batches: Sequence[Array]) -> list[list[Array]]:
    """All outputs of a torch module on each batch."""
    with torch.no_grad():
        return [_as_list(model(torch.from_numpy(batch))) for batch in batches]


def _run_torch(model: nn.Module, batches: Sequence[Array]) -> tuple[list[Array], Selections]:
    """Outputs and WCC selections of a torch module."""
    outputs, selections = [], []
    for batch in batches:
        with recording(model, quantizers=False) as found, torch.no_grad():
            outputs.append(_as_list(model(torch.from_numpy(batch))))
        selections.append(found.selected)
    return _joined(outputs), _joined_selections(selections)


def _selections(graph: onnx.ModelProto) -> dict[Call, str]:
    """Name of the indices that each call of a WCC layer selects."""
    return {
        call: node.output[1]
        for node in graph.graph.node
        if node.op_type == "TopK" and (call := call_of(node, "TopK")) is not None
    }


def _run_graph(
    run: Run, graph: onnx.ModelProto, batches: Sequence[Array], top_k: dict[Call, str]
) -> tuple[list[Array], Selections]:
    """The same of an ONNX graph; ``top_k`` names its selections."""
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in top_k.values())
    results = run(watched, batches)
    plain = len(graph.graph.output)
    selections = [dict(zip(top_k, result[plain:], strict=True)) for result in results]
    return _joined([result[:plain] for result in results]), _joined_selections(selections)


def _as_list(output: Any) -> list[Array]:
    return [tensor.numpy() for tensor in flat_outputs(output)]


def _joined(outputs: list[list[Array]]) -> list[Array]:
    """Batches of outputs -> one array for each output."""
    return [np.concatenate(parts).astype(np.float32) for parts in zip(*outputs, strict=True)]


def _joined_selections(selections: list[Selections]) -> Selections:
    return {call: np.concatenate([part[call] for part in selections]) for call in selections[0]}


@contextmanager
def _quantizers_off(model: nn.Module) -> Iterator[None]:
    quantizers = [m for m in model.modules() if isinstance(m, ActivationQuantizer) and m.enabled]
    try:
        for quantizer in quantizers:
            quantizer.enabled = False
        yield
    finally:
        for quantizer in quantizers:
            quantizer.enabled = True
