"""A faulty graph is caught, a right one is not; every figure means what it says."""

from __future__ import annotations

import copy
import math

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from waveedge.decibels import snr_db
from waveedge.errors import VerificationError
from waveedge.export.lowering import lower
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.export.verify import verify
from waveedge.nn import ActivationQuantizer


@pytest.fixture(scope="module")
def plain() -> tuple[torch.nn.Module, onnx.ModelProto]:
    """A float network with two outputs' worth of classes."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(3600, 5)
    ).eval()
    return model, lower(to_onnx(model, (3, 32, 32)), "onnx").encoded


def changed(graph: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    """The graph with one constant multiplied."""
    graph = copy.deepcopy(graph)
    (tensor,) = [tensor for tensor in graph.graph.initializer if tensor.name == name]
    data = (numpy_helper.to_array(tensor) * np.float32(factor)).astype(
        numpy_helper.to_array(tensor).dtype
    )
    tensor.CopyFrom(numpy_helper.from_array(data, name))
    return graph


def test_a_right_graph_passes(everything, photos):
    graph = lower(everything.traced, "ort").encoded
    result = verify(everything.model, graph, photos)
    assert result.passed
    assert result.images == 4
    assert result.figures["snr_db"] > 40
    assert result.selection.keys() == {"wcc"}
    assert result.selection["wcc"] > 0.98
    quantizers = [m for m in everything.model.modules() if isinstance(m, ActivationQuantizer)]
    assert all(quantizer.enabled for quantizer in quantizers)
    assert not any(module._forward_hooks for module in everything.model.modules())


@pytest.mark.parametrize("target", ["onnx", "ort"])
def test_cut_at_its_quantizers_a_graph_is_torch_to_the_bit(everything, photos, target):
    """With biases on the accumulator's grid no integer differs, in either encoding."""
    graph = lower(everything.traced, target).encoded
    checks = {check.name: check.value for check in verify(everything.model, graph, photos).checks}
    assert checks["cut: equal integers"] == 1
    assert checks["cut: largest step"] == 0
    assert checks["cut: kept energy"] == pytest.approx(1, abs=1e-6)
    assert checks["cut: SNR, dB"] > 120


@pytest.mark.parametrize("factor", [1.05, 1.5])
def test_a_wrong_weight_scale_is_caught_in_a_noisy_network(everything, photos, factor):
    """Three-bit noise would hide the fault from a comparison of outputs; the cut graph shows it."""
    right = lower(everything.traced, "ort").encoded
    scale = next(n.input[1] for n in right.graph.node if n.input[0] == "mix.weight_int8")
    with pytest.raises(VerificationError, match="cut: equal integers"):
        verify(everything.model, changed(right, scale, factor), photos)


@pytest.mark.parametrize("quantizer", ["q_low", "q_sum", "q_hidden"])
def test_a_wrong_zero_point_is_caught(everything, photos, quantizer):
    wrong = lower(everything.traced, "ort").encoded
    node = next(
        node
        for node in wrong.graph.node
        if node.op_type == "QuantizeLinear" and node.name.startswith(f"{quantizer}/")
    )
    wrong.graph.initializer.append(numpy_helper.from_array(np.array(126, np.uint8), "off"))
    node.input[2] = "off"
    with pytest.raises(VerificationError, match="cut:"):
        verify(everything.model, wrong, photos)


def test_a_wrong_selection_is_caught(everything, photos):
    """TopK of the smallest energies: as many positions, the wrong ones."""
    wrong = lower(everything.traced, "ort").encoded
    (top_k,) = [node for node in wrong.graph.node if node.op_type == "TopK"]
    top_k.attribute.append(helper.make_attribute("largest", 0))
    for attribute in list(top_k.attribute)[:-1]:
        if attribute.name == "largest":
            top_k.attribute.remove(attribute)
    with pytest.raises(VerificationError, match="kept energy"):
        verify(everything.model, wrong, photos)


def test_float_graphs_agree_to_1e_4(plain, photos):
    model, graph = plain
    result = verify(model, graph, photos, task="classification")
    error, snr = result.checks
    assert (error.limit, snr.limit) == (1e-4, 100)
    assert error.value < 1e-6
    assert result.figures["argmax_agreement"] == 1
    with pytest.raises(VerificationError, match="relative error"):
        verify(model, changed(graph, "0.weight", 1.001), photos)


def test_figures_of_segmentation_and_images(photos):
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 3, 1).eval()
    graph = lower(to_onnx(model, (3, 32, 32)), "onnx").encoded
    assert verify(model, graph, photos, task="segmentation").figures["pixel_agreement"] == 1
    assert verify(model, graph, photos, task="super-resolution").figures["psnr_db"] > 100


def test_the_message_has_figure_and_limit(plain, photos):
    model, graph = plain
    with pytest.raises(VerificationError) as caught:
        verify(model, changed(graph, "0.weight", 2), photos)
    assert "<= 0.0001" in caught.value.what
    assert "Nothing was written" in caught.value.hint


def test_snr():
    signal = np.ones((2, 2), np.float32)
    assert snr_db(signal, signal * 0.9) == pytest.approx(20, abs=1e-4)
    assert snr_db(signal, signal) == math.inf
    assert snr_db(signal * 0, signal) == -math.inf
