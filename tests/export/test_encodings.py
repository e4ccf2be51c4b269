"""Both encodings hold the same numbers, those of torch, and onnxruntime runs them as integers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import fx

from waveedge.export.layers import layers_of, optimised_by_onnxruntime
from waveedge.export.lowering import lower
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.nn import (
    ActivationQuantizer,
    QuantizedConv2d,
    QuantizedLinear,
    WeightQuantizer,
)

from .conftest import quantizer


def initializers(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def integer_tensors(graph: onnx.ModelProto) -> dict[str, str]:
    """Quantizer's module path -> name of the integers it writes (behind an integer Clip)."""
    found = {}
    clips = {node.input[0]: node.output[0] for node in graph.graph.node if node.op_type == "Clip"}
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            value = node.output[0]
            found[node.name.split("/")[0]] = clips.get(value, value)
    return found


def torch_integers(model: torch.nn.Module, x: np.ndarray) -> dict[str, np.ndarray]:
    found = {}

    def watch(name: str, layer: ActivationQuantizer) -> None:
        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            found[name] = torch.round(output / layer.scale).to(torch.int64).detach().numpy()

        handles.append(layer.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in model.named_modules():
        if isinstance(layer, ActivationQuantizer):
            watch(name, layer)
    with torch.no_grad():
        model(torch.from_numpy(x))
    for handle in handles:
        handle.remove()
    return found


def test_both_encodings_and_torch_hold_the_same_integers(everything, photos, run):
    """Design decision 1: q as int8 with zero point 0 and q + 128 as uint8 are the same numbers."""
    int8 = lower(everything.traced, "onnx").encoded
    uint8 = lower(everything.traced, "ort").encoded
    names, shifted = integer_tensors(int8), integer_tensors(uint8)
    assert set(names) == set(shifted)
    assert len(names) == 9
    for x in photos:
        wanted = torch_integers(everything.model, x)
        a = run(int8, x, values=list(names.values()), as_written=True)
        b = run(uint8, x, values=[shifted[name] for name in names], as_written=True)
        for name, q, q128 in zip(names, a, b, strict=True):
            assert q.dtype == np.int8
            assert q128.dtype == np.uint8
            np.testing.assert_array_equal(q.astype(int), q128.astype(int) - 128, err_msg=name)
            np.testing.assert_array_equal(q, wanted[name], err_msg=name)


class Shifted(torch.nn.Module):
    """Grids of 8 bits with zero points, and everything that may read one."""

    def __init__(self) -> None:
        super().__init__()
        self.q_in = quantizer(8, 2.0**-7, zero_point=-100)
        self.padded = QuantizedConv2d.from_float(torch.nn.Conv2d(3, 8, 3, padding=1))
        self.q_padded = quantizer(8, 0.007, zero_point=60)
        self.up = QuantizedConv2d.from_float(torch.nn.Conv2d(8, 8, 1))
        self.q_gelu = quantizer(8, 0.004, zero_point=-113)
        self.down = QuantizedConv2d.from_float(torch.nn.Conv2d(8, 8, 3))
        self.q_down = quantizer(8, 0.006, zero_point=-20)
        self.q_sum = quantizer(8, 0.010313, zero_point=31)
        self.q_narrow = quantizer(4, 0.15, zero_point=-5)
        self.narrow = QuantizedConv2d.from_float(torch.nn.Conv2d(8, 8, 1))
        self.q_pieces = quantizer(8, 0.009, zero_point=44)
        self.linear = QuantizedLinear.from_float(torch.nn.Linear(8, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.q_padded(self.padded(self.q_in(x)))
        y = self.q_down(self.down(self.q_gelu(torch.nn.functional.gelu(self.up(x)))))
        y = self.q_sum(y + x[:, :, 1:-1, 1:-1])
        one, two = self.q_pieces(self.narrow(self.q_narrow(y))), self.q_pieces(y)
        both = self.q_pieces(torch.cat([one, two], 2))
        return torch.sigmoid(y).mean() + self.linear(both.permute(0, 2, 3, 1))


def test_zero_points_hold_torch_s_integers_in_both_encodings(photos, run):
    torch.manual_seed(3)
    model = Shifted().eval()
    traced = to_onnx(model, (3, 32, 32))
    int8, uint8 = (lower(traced, target).encoded for target in ("onnx", "ort"))
    modules = dict(model.named_modules())
    names, shifted = integer_tensors(int8), integer_tensors(uint8)
    once = [
        name for name, module in modules.items() if name.startswith("q_") and module is not model
    ]
    # One is called three times, the other is padded in front in int8, and has another name there.
    once = [name for name in once if name not in ("q_pieces", "q_in")]
    for x in photos:
        wanted = torch_integers(model, x)
        a = run(int8, x, values=[names[name] for name in once], as_written=True)
        b = run(uint8, x, values=[shifted[name] for name in once], as_written=True)
        for name, q, bytes_ in zip(once, a, b, strict=True):
            module = modules[name]
            offset = module.qmin + 128 if module.bits == 8 else 0
            for got in (q.astype(int) + offset, bytes_.astype(int) - 128 + offset):
                difference = np.abs(got - wanted[name])
                # What is added before rounding may tip a value that lies between two points.
                assert difference.max() <= 1, name
                assert (difference > 0).mean() < 5e-3, name
        with torch.no_grad():
            output = model(torch.from_numpy(x)).numpy()
        for graph in (int8, uint8):
            error = run(graph, x)[0] - output
            assert np.square(output).sum() > 1e4 * np.square(error).sum()


def test_zero_points_cost_onnxruntime_nothing(photos, run):
    torch.manual_seed(3)
    plain = Shifted().eval()
    for module in plain.modules():
        if isinstance(module, ActivationQuantizer) and module.bits == 8:
            module.zero_point = 0
    counts = []
    for model in (Shifted().eval(), plain):
        graph = lower(to_onnx(model, (3, 32, 32)), "ort").encoded
        optimised = optimised_by_onnxruntime(graph.SerializeToString())
        counts.append(Counter(node.op_type for node in optimised.graph.node))
    assert counts[0] == counts[1]
    assert counts[0]["QLinearConv"] == 3  # all but the one in front of a GELU


def test_int8_has_zero_point_0_and_no_layer_reads_floats_for_it(run):
    graph = lower(to_onnx(Shifted().eval(), (3, 32, 32)), "trt").encoded
    stored = initializers(graph)
    makers = {node.output[0]: node for node in graph.graph.node}
    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not stored[node.input[2]].any()
        if node.op_type in ("Conv", "Gemm"):
            value = node.input[0]
            while makers[value].op_type in ("Reshape", "Transpose", "Concat"):
                value = makers[value].input[0]
            assert makers[value].op_type == "DequantizeLinear", node.name
    assert sum(node.op_type == "Pad" for node in graph.graph.node) == 1


def test_low_bits_are_low(everything, photos, run):
    """A tensor asked to have b bits takes at most 2^b values, and uses the ends of its grid."""
    uint8 = lower(everything.traced, "ort").encoded
    names = integer_tensors(uint8)
    ends = {"q_relu": (0, 15), "q_low": (-4, 3)}
    for name, (low, high) in ends.items():
        q = np.concatenate([run(uint8, x, values=[names[name]])[0].astype(int) for x in photos])
        assert (q.min() - 128, q.max() - 128) == (low, high)
    weight = initializers(uint8)["mix.weight_int8"]
    assert weight.dtype == np.int8
    assert set(np.unique(weight)) <= set(range(-7, 8))


def test_optimised_graphs_agree_with_torch(everything, photos, run):
    for target in ("onnx", "ort"):
        graph = lower(everything.traced, target).encoded
        for x in photos:
            with torch.no_grad():
                wanted = everything.model(torch.from_numpy(x)).numpy()
            error = run(graph, x)[0] - wanted
            assert np.square(wanted).sum() > 1e4 * np.square(error).sum()


@pytest.mark.parametrize("batch", [1, "dynamic"])
def test_onnxruntime_fuses_every_integer_layer(everything, batch, run, photos):
    traced = everything.traced
    if batch == "dynamic":
        traced = to_onnx(everything.model, (3, 32, 32), batch="dynamic")
    graph = lower(traced, "ort").encoded
    optimised = optimised_by_onnxruntime(graph.SerializeToString())
    count = Counter(node.op_type for node in optimised.graph.node)
    assert count["QLinearConv"] == 3  # stem, depthwise, mix
    assert count["QGemm"] == 2
    assert count["QLinearAdd"] + count["QLinearConcat"] == 2
    assert not count["MatMul"] + count["Gemm"] + count["Relu"] + count["FusedConv"]
    if batch == "dynamic":
        pair = np.concatenate(photos[:2])
        (both,) = run(graph, pair)
        assert both.shape[0] == 2
        np.testing.assert_allclose(both[:1], run(graph, photos[0])[0], atol=1e-5)


def test_relu_moves_behind_the_quantizer(integers, photos, run):
    """A Relu before a signed grid becomes the lower end of an integer Clip: same numbers."""
    graph = lower(integers.traced, "ort").encoded
    kinds = [node.op_type for node in graph.graph.node]
    assert "Relu" not in kinds
    assert kinds.count("Clip") == 1
    (wanted,) = run(lower(integers.traced, "onnx").encoded, photos[0], as_written=True)
    np.testing.assert_array_equal(run(graph, photos[0], as_written=True)[0], wanted)


def test_weights_are_the_quantizers_integers(everything):
    found = initializers(lower(everything.traced, "trt").encoded)
    for name, layer in everything.model.named_modules():
        quantizer = getattr(layer, "weight_quantizer", None)
        if isinstance(quantizer, WeightQuantizer):
            integers = quantizer.integers(layer.weight).numpy()
            if isinstance(layer, torch.nn.Linear):
                integers = integers.T
            np.testing.assert_array_equal(found[f"{name}.weight_int8"], integers)
            assert f"{name}.weight" not in found


def test_trt_graph_is_symmetric_int8_with_float_biases(everything):
    graph = lower(everything.traced, "trt").encoded
    types = Counter(tensor.data_type for tensor in graph.graph.initializer)
    assert types[TensorProto.UINT8] == types[TensorProto.INT32] == 0
    for name, data in initializers(graph).items():
        if "zero" in name:
            assert data.dtype == np.int8
            assert not data.any()


def test_biases_of_ort_are_int32_on_the_accumulators_grid(everything):
    found = initializers(lower(everything.traced, "ort").encoded)
    for layer, step in (("stem/Conv", 2.0**-7), ("up/MatMul", 0.01)):
        bias, scale = found[f"{layer}/bias_int32"], found[f"{layer}/bias_scale"]
        module = getattr(everything.model, layer.split("/")[0])
        assert bias.dtype == np.int32
        steps = np.float32(step) * module.weight_quantizer.scale.detach().numpy()
        np.testing.assert_allclose(scale, steps, rtol=1e-6)
        np.testing.assert_allclose(bias * scale, module.bias.detach().numpy(), rtol=1e-5)


def test_a_bias_too_large_for_int32_stays_float():
    """A dead channel has a tiny weight scale; its bias must survive."""
    layer = QuantizedConv2d.from_float(torch.nn.Conv2d(3, 2, 1))
    layer.weight_quantizer.scale.data[0] = 1e-12
    layer.bias.data[0] = 5.0
    quantizer = ActivationQuantizer(8)
    quantizer.scale.data.fill_(1e-3)
    model = torch.nn.Sequential(quantizer, layer).eval()
    graph = ir.from_proto(lower(to_onnx(model, (3, 8, 8)), "ort").encoded)
    conv = next(node for node in graph.graph if node.op_type == "Conv")
    assert conv.inputs[2].const_value.dtype == ir.DataType.FLOAT
    assert conv.inputs[2].const_value.numpy()[0] == 5.0


def test_the_file_tells_nothing_about_the_machine_and_is_the_same_twice(integers, tmp_path):
    first = lower(integers.traced, "ort").encoded.SerializeToString()
    again = to_onnx(integers.model, (3, 32, 32))
    assert lower(again, "ort").encoded.SerializeToString() == first
    assert b".py" not in first
    assert b"site-packages" not in first
    graph = onnx.ModelProto.FromString(first)
    assert [value.name for value in graph.graph.input] == ["input"]
    assert [value.name for value in graph.graph.output] == ["output"]
    assert graph.producer_name == "waveedge"
    assert {"first/Conv", "second/Conv"} <= {node.name for node in graph.graph.node}


class Leaves(fx.Tracer):
    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return True


def test_a_traced_network_has_the_same_names(everything):
    """Compressed networks are fx graphs; names inside their layers must not be lost."""
    graph = fx.GraphModule(everything.model, Leaves().trace(everything.model)).eval()
    noted = [dict(node.meta) for node in graph.graph.nodes]
    traced = to_onnx(graph, (3, 32, 32))
    assert [dict(node.meta) for node in graph.graph.nodes] == noted
    names = {node.name for node in traced.graph}
    assert names == {node.name for node in everything.traced.graph}
    assert "wcc.activation_quantizer/FakeQuantize" in names
    layers = [layer.name for layer in layers_of(traced, graph)]
    assert layers == ["stem", "depthwise", "mix", "up", "down", "deconv", "wcc"]
