"""Is the exported network the torch network? Both run on the same images, and are compared.

What agreement means depends on the network:

* A float graph differs by the order of additions alone: the largest error may be 1e-4 of the
  largest output.
* In a quantized graph, a value that falls almost on the border of two steps may round to either,
  and in a deep network such a step makes others. Two checks together are strict and yet not
  disturbed by it. *Structure*: with the activation quantizers taken out of both, the rule for float
  graphs holds. *Outputs*: with them in place, the signal-to-noise ratio between onnxruntime and
  torch is 30 dB, or no worse than 3 dB below what quantization itself leaves (torch with quantizers
  against torch without): export may not be the larger error.
* Top-k selection (WCC) is as discontinuous: coefficients of equal energy may swap. Where a graph
  selects, *structure* asks for 30 dB, and the selected sets must agree in 95 of 100 positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from waveedge.errors import VerificationError
from waveedge.nn import ActivationQuantizer, WaveletCompressedConv2d
from waveedge.spec import Task

__all__ = ["Check", "Verification", "verify"]

FLOAT_ERROR = 1e-4
SNR_DB = 30.0
SNR_MARGIN_DB = 3.0
SELECTION_AGREEMENT = 0.95

Array = NDArray[np.float32]
_EXACT_DB = 200.0
"""Stands for "no difference at all", which has no decibels."""


@dataclass(frozen=True)
class Check:
    """One figure that has a limit."""

    name: str
    value: float
    limit: float
    at_most: bool

    @property
    def passed(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        rule = "<=" if self.at_most else ">="
        return f"{self.name} is {self.value:.4g}, asked for {rule} {self.limit:.4g}"


@dataclass(frozen=True)
class Verification:
    """What was compared, and what came of it.

    Attributes:
        images: number of images compared.
        figures: the agreement in the terms of the network's task.
        checks: the figures that decide.
        selection: per WCC layer, the share of selected positions that agree.
    """

    images: int
    figures: dict[str, float]
    checks: list[Check]
    selection: dict[str, float]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "figures": self.figures,
            "checks": [
                {
                    "name": check.name,
                    "value": check.value,
                    "limit": check.limit,
                    "rule": "<=" if check.at_most else ">=",
                    "passed": check.passed,
                }
                for check in self.checks
            ],
            "selection": self.selection,
            "passed": self.passed,
        }


def verify(
    model: nn.Module,
    graph: onnx.ModelProto,
    batches: Sequence[Array],
    *,
    skeleton: onnx.ModelProto | None = None,
    task: Task = "unknown",
    peak: float = 1.0,
) -> Verification:
    """Compares a graph in onnxruntime, as it is run by default, with its torch original.

    Args:
        model: the torch module, in eval mode; unchanged on return.
        graph: the exported graph.
        batches: inputs (N, C, H, W) float32.
        skeleton: the graph without activation quantizers, if it has any.
        task: decides which figures are added.
        peak: range of image outputs (white minus black), for the PSNR.

    Raises:
        VerificationError: a check failed; the message has all checks.
    """
    wanted, wanted_sets = _run_torch(model, batches)
    got, got_sets = _run_onnx(graph, batches)
    selection = {
        name: _agreement(wanted_sets[name], got_sets[name])
        for name in wanted_sets
        if name in got_sets
    }
    snr = min(snr_db(a, b) for a, b in zip(wanted, got, strict=True))
    if skeleton is None:
        checks = _structure(wanted, got, selects=bool(selection))
    else:
        with _quantizers_off(model):
            plain, _ = _run_torch(model, batches)
        bare, _ = _run_onnx(skeleton, batches)
        checks = _structure(plain, bare, selects=bool(selection))
        noise = min(snr_db(a, b) for a, b in zip(plain, wanted, strict=True))
        limit = min(SNR_DB, noise - SNR_MARGIN_DB)
        checks.append(Check("outputs: SNR, dB", snr, limit, at_most=False))
    if selection:
        checks.append(
            Check("selected sets", min(selection.values()), SELECTION_AGREEMENT, at_most=False)
        )
    figures = {
        "max_abs_error": max(float(np.abs(a - b).max()) for a, b in zip(wanted, got, strict=True)),
        "snr_db": snr,
        **_task_figures(wanted[0], got[0], task, peak),
    }
    if selection:
        figures["selection_agreement"] = min(selection.values())
    result = Verification(sum(len(batch) for batch in batches), figures, checks, selection)
    if not result.passed:
        failed = "; ".join(str(check) for check in checks if not check.passed)
        raise VerificationError(
            f"the exported network does not agree with torch: {failed}",
            hint="Nothing was written. This is a fault of the export, not of the network: please "
            "report it with the network's configuration.",
        )
    return result


def snr_db(signal: Array, other: Array) -> float:
    """Signal-to-noise ratio in dB of ``other`` as an approximation of ``signal``."""
    power = float(np.square(signal, dtype=np.float64).sum())
    noise = float(np.square(signal.astype(np.float64) - other).sum())
    if noise == 0:
        return _EXACT_DB
    if power == 0:
        return -_EXACT_DB
    return float(np.clip(10 * np.log10(power / noise), -_EXACT_DB, _EXACT_DB))


def _structure(wanted: list[Array], got: list[Array], *, selects: bool) -> list[Check]:
    if selects:
        snr = min(snr_db(a, b) for a, b in zip(wanted, got, strict=True))
        return [Check("structure: SNR, dB", snr, SNR_DB, at_most=False)]
    error = max(
        float(np.abs(a - b).max()) / max(float(np.abs(a).max()), 1e-12)
        for a, b in zip(wanted, got, strict=True)
    )
    return [Check("structure: relative error", error, FLOAT_ERROR, at_most=True)]


def _task_figures(wanted: Array, got: Array, task: Task, peak: float) -> dict[str, float]:
    if task == "classification":
        same = wanted.argmax(axis=-1) == got.argmax(axis=-1)
        return {"argmax_agreement": float(same.mean())}
    if task == "segmentation":
        several = wanted.shape[1] > 1
        classes = [y.argmax(axis=1) if several else y > 0 for y in (wanted, got)]
        return {"pixel_agreement": float((classes[0] == classes[1]).mean())}
    if task in ("super-resolution", "restoration"):
        error = float(np.square(wanted.astype(np.float64) - got).mean())
        psnr = 10 * np.log10(peak**2 / error) if error else _EXACT_DB
        return {"psnr_db": float(psnr)}
    return {}


def _agreement(wanted: NDArray[np.int64], got: NDArray[np.int64]) -> float:
    """Share of the positions of one selection that the other has too; both (N, k)."""
    pairs = zip(wanted, got, strict=True)
    return float(np.mean([np.isin(a, b).mean() for a, b in pairs]))


Selections = dict[str, NDArray[np.int64]]


def _run_torch(model: nn.Module, batches: Sequence[Array]) -> tuple[list[Array], Selections]:
    """Outputs and WCC selections (module path -> positions (N, k)) of a torch module."""
    selected: dict[str, list[NDArray[np.int64]]] = {}

    def watch(name: str) -> Callable[[WaveletCompressedConv2d, tuple[torch.Tensor]], None]:
        def hook(layer: WaveletCompressedConv2d, inputs: tuple[torch.Tensor]) -> None:
            selected.setdefault(name, []).append(layer.selected(inputs[0]).numpy())

        return hook

    hooks = [
        layer.register_forward_pre_hook(watch(name))
        for name, layer in model.named_modules()
        if isinstance(layer, WaveletCompressedConv2d) and layer.ratio < 1
    ]
    try:
        with torch.no_grad():
            outputs = [_as_list(model(torch.from_numpy(batch))) for batch in batches]
    finally:
        for handle in hooks:
            handle.remove()
    return _joined(outputs), {name: np.concatenate(parts) for name, parts in selected.items()}


def _run_onnx(graph: onnx.ModelProto, batches: Sequence[Array]) -> tuple[list[Array], Selections]:
    """The same of an ONNX graph; the selections are read from its TopK nodes."""
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    top_k = [node for node in watched.graph.node if node.op_type == "TopK"]
    for node in top_k:
        watched.graph.output.append(
            onnx.helper.make_tensor_value_info(node.output[1], onnx.TensorProto.INT64, None)
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    results = [session.run(None, {name: batch}) for batch in batches]
    plain = len(graph.graph.output)
    outputs = _joined([result[:plain] for result in results])
    selections = {}
    for index, node in enumerate(top_k, start=plain):
        indices = np.concatenate([result[index] for result in results])  # (N, k, tiles)
        tiles = indices.shape[-1]
        positions = (indices * tiles + np.arange(tiles)).reshape(len(indices), -1)
        selections[node.name.rsplit("/", 1)[0]] = positions
    return outputs, selections


def _as_list(output: Any) -> list[Array]:
    tensors = [output] if isinstance(output, torch.Tensor) else list(output)
    return [tensor.numpy() for tensor in tensors]


def _joined(outputs: list[list[Array]]) -> list[Array]:
    """Batches of outputs -> one array for each output."""
    return [np.concatenate(parts).astype(np.float32) for parts in zip(*outputs, strict=True)]


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
