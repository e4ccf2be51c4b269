"""The integer form of GELU runs in integer kernels, with the numbers of torch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import fx, nn

from waveedge.compression.gelus import fit_gelus, place_gelus
from waveedge.compression.recipe import make_recipe
from waveedge.compression.reparameterize import reparameterize
from waveedge.export.layers import optimised_by_onnxruntime
from waveedge.export.lowering import lower
from waveedge.export.passes.integer_sigmoid import IntegerSigmoid
from waveedge.export.passes.zero_points import ShiftZeroPoints
from waveedge.export.torch_to_onnx import to_onnx

from .conftest import close, operators, quantize, rewritten


def gelu_between_integers(shape: tuple[int, int, int]) -> fx.GraphModule:
    """Two convolutions with an integer GELU between, its input in steps of STEP."""
    torch.manual_seed(0)
    graph = reparameterize(nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 4, 1)), (8, 8))
    quantize(graph, shape)
    place_gelus(graph, make_recipe({"bits": 8}))
    fit_gelus(graph)
    return graph.eval()


@pytest.mark.parametrize("batch", [1, "dynamic"])
def test_an_integer_gelu_runs_in_integer_kernels_with_the_numbers_of_torch(run, batch):
    shape = (3, 9, 7)
    graph = gelu_between_integers(shape)
    traced = to_onnx(graph, shape, batch=batch)
    shipped = rewritten(lower(traced, "ort").encoded, ShiftZeroPoints(), IntegerSigmoid())
    onnx.checker.check_model(shipped, full_check=True)
    count = operators(optimised_by_onnxruntime(shipped.SerializeToString()))
    assert (count["QLinearConv"], count["QLinearSigmoid"], count["QLinearMul"]) == (2, 1, 1)
    assert (count["QuantizeLinear"], count["DequantizeLinear"]) == (1, 1)
    signed = lower(traced, "onnx").encoded
    x = 3 * np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    (got,) = run(shipped, x)
    # Both encodings, to the bit: uint8 in integer kernels, int8 as it is written.
    np.testing.assert_array_equal(got, run(signed, x, as_written=True)[0])
    with torch.no_grad():
        close(got, graph(torch.from_numpy(x)).numpy(), quantized=True)


def test_other_sigmoids_stay_as_they_are():
    """A shift by no whole number of steps, and a slope for each channel."""
    graph = lower(to_onnx(gelu_between_integers((3, 8, 8)), (3, 8, 8)), "ort").encoded
    names = {name.rsplit(".")[-1]: name for name in (t.name for t in graph.graph.initializer)}
    others = {
        "middle": (np.float32(0.25), ShiftZeroPoints()),
        "slope": (np.ones((8, 1, 1), np.float32), IntegerSigmoid()),
    }
    for name, (value, step) in others.items():
        changed = onnx.ModelProto.FromString(graph.SerializeToString())
        for tensor in changed.graph.initializer:
            if tensor.name == names[name]:
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        assert operators(rewritten(changed, step)) == operators(changed)
        assert operators(rewritten(graph, step)) != operators(graph)
