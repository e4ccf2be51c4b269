"""What the engine inspector says, in the words of its versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from waveedge.runtime.engine_kernels import read_kernels
from waveedge.runtime.engine_layers import executed_bits, read_layers

INT8 = "Thirty-two wide channel vectorized row major Int8 format"


def layer(name: str, kind: str, given: str, gives: str, **more: Any) -> dict[str, Any]:
    field = more.pop("field", "Format/Datatype")
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [{"Name": "x", "Dimensions": [1, 8, 4, 4], field: given}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 8, 4, 4], field: gives}],
        **more,
    }


# Enterprise TensorRT 10: weights first in the name, the nodes in the metadata.
TEN = layer(
    "first.weight + QuantizeLinear_23 + first/Conv + PWN(relu)",
    "CaskConvolution",
    INT8,
    INT8,
    Weights={"Type": "Int8", "Count": 216},
    Bias={"Type": "Float", "Count": 8},
    TacticName="sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs",
    Metadata="[ONNX Layer: first/Conv]\x1e[ONNX Layer: relu]",
)
# 10.16 and later: short types, and control characters of another kind between nodes.
SIXTEEN = layer(
    "__myl_ConvRelu_myl0_3",
    "kgen",
    "Half",
    "Half",
    Weights={"Type": "Half", "Count": 216},
    Metadata="[ONNX Layer: first/Conv]\x1f[ONNX Layer: relu]",
)
# A layer that writes floats behind an int8 product, with its tactic alone to tell of weights.
ELEVEN = layer(
    "first/Conv",
    "gemm",
    "Int8",
    "Float",
    TacticName="sm80_xmma_gemm_i8f32_i8i32_f32_tn_n",
    Metadata="[ONNX Layer: first/Conv]",
)
BFLOAT = layer(
    "first/Conv",
    "CaskConvolution",
    "Row major linear BFloat16 format",
    "BFloat16",
    TacticName="sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc",
    Metadata="[ONNX Layer: first/Conv]",
)
# TensorRT-RTX: the weights are an input, and the compiler numbers what it makes of a node.
RTX = {
    "Name": "first/Conv_myl0_2",
    "LayerType": "correlation",
    "Inputs": [{"Name": "x", "Datatype": "Int8"}, {"Name": "w", "Datatype": "Int8"}],
    "Outputs": [{"Name": "y", "Datatype": "Float"}],
}
FLOAT = layer("first/Conv", "CaskConvolution", "Row major linear FP32", "Row major linear FP32")


@pytest.mark.parametrize(
    ("found", "bits"),
    [
        (TEN, (8, 8)),
        (SIXTEEN, (16, 16)),
        (ELEVEN, (8, 8)),
        (RTX, (8, 8)),
        (FLOAT, (32, 32)),
        (BFLOAT, (16, 16)),
    ],
    ids=["10.3", "10.16", "11.4", "rtx", "float32", "bfloat16"],
)
def test_bits_are_read_in_the_words_of_each_version(found, bits):
    layers = read_layers(json.dumps({"Layers": [found], "Bindings": ["x", "y"]}))
    assert executed_bits(layers, ["first", "second"]) == {"first": bits}


def test_a_channel_count_in_a_format_is_no_type():
    found = layer("first/Conv", "x", "Channel major FP16 format where channel % 4 == 0", "Half")
    assert executed_bits(read_layers(json.dumps([found])), ["first"]) == {"first": (16, 16)}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"Layers": ["first/Conv", "second"]}', '{"Layers": 3}']
)
def test_what_tells_nothing_gives_nothing(text):
    assert executed_bits(read_layers(text), ["first"]) == {}


def test_signals_between_streams_are_no_kernels():
    signals = [layer(f"s{kind}", kind, "Float", "Float") for kind in ("signal", "wait")]
    assert [one.kind for one in read_layers(json.dumps([signals[0], TEN, signals[1]]))] == [
        "CaskConvolution"
    ]
    tensor = "[x[Float(1,8,4,4)], Dimensions: [1,8,4,4], Format/Datatype: Float]"
    line = "Name: a, LayerType: {}, Inputs: {t}, Outputs: {t}, TacticName: b"
    log = "\n".join(line.format(kind, t=tensor) for kind in ("signal", "gemm", "wait"))
    (kernel,) = read_kernels(f"Layers:\n{log}")
    assert (kernel.kind, kernel.moved_bytes) == ("gemm", 2 * 4 * 128)
