"""What the engine inspector says, in the words of its versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from waveedge.runtime.engine_layers import computing, executed_bits, read_layers
from waveedge.runtime.engine_log import read_log

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
# TensorRT-RTX: the weights are a constant, and the compiler numbers what it makes of a node.
RTX = {
    "Name": "first/Conv_myl0_2",
    "LayerType": "correlation",
    "Inputs": [{"Name": "x", "Datatype": "Int8"}],
    "Constants": [{"Name": "w", "Datatype": "Int8"}, {"Name": "b", "Datatype": "Float"}],
    "Outputs": [{"Name": "y", "Datatype": "Float"}],
    "Metadata": "[ONNX Layer: first/Conv][ONNX Layer: quantizer/DequantizeLinear]",
}
PRODUCT = layer(
    "first/MatMul_myl0_2",
    "gemm",
    "Int8",
    "Float",
    field="Datatype",
)
PRODUCT["Inputs"].append({"Name": "w", "Datatype": "Int8"})
# Its scales and bias, and the quantizer of the next one, have the convolution in their metadata.
BEHIND = {
    "Name": "__myl_MulCastAddReluMulMinMaxRounCast_myl0_3",
    "LayerType": "kgen",
    "Inputs": [{"Name": "y", "Datatype": "Float"}],
    "Outputs": [{"Name": "z", "Datatype": "Int8"}],
    "Metadata": "[ONNX Layer: relu][ONNX Layer: first/Conv][ONNX Layer: next/QuantizeLinear]",
}
# What stands at the types' place tells nothing: the tactic does, and the output's type does not.
UNTYPED = layer(
    "first/Conv",
    "CaskConvolution",
    "",
    "Half",
    TacticName="sm80_xmma_fprop_implicit_gemm_i8i8_i8i32_f32_nhwckrsc_nhwc",
    Metadata="[ONNX Layer: first/Conv]",
)
FLOAT = layer("first/Conv", "CaskConvolution", "Row major linear FP32", "Row major linear FP32")


@pytest.mark.parametrize(
    ("found", "bits"),
    [
        (TEN, (8, 8)),
        (SIXTEEN, (16, 16)),
        (ELEVEN, (8, 8)),
        (RTX, (8, 8)),
        (PRODUCT, (8, 8)),
        (UNTYPED, (8, 8)),
        (FLOAT, (32, 32)),
        (BFLOAT, (16, 16)),
    ],
    ids=["10.3", "10.16", "11.4", "rtx", "gemm", "tactic", "float32", "bfloat16"],
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


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_multiplies_tells_of_a_convolution_and_not_its_epilogue(order):
    unnamed = {**RTX, "Name": "__myl_Conv_myl0_2"}
    for product in (RTX, unnamed):
        found = json.dumps({"Layers": [(product, BEHIND)[index] for index in order]})
        assert executed_bits(read_layers(found), ["first"]) == {"first": (8, 8)}


def test_signals_between_streams_are_no_kernels():
    signals = [layer(f"s{kind}", kind, "Float", "Float") for kind in ("signal", "wait")]
    assert [one.kind for one in read_layers(json.dumps([signals[0], TEN, signals[1]]))] == [
        "CaskConvolution"
    ]
    tensor = "[ { Name: x, Dimensions: [1,8,4,4], Format/Datatype: Float }]"
    line = "Name: a, LayerType: {}, Inputs: {t}, Outputs: {t}, TacticName: b, StreamId: 0"
    log = "\n".join(line.format(kind, t=tensor) for kind in ("signal", "gemm", "wait"))
    (kernel,) = read_log(f"Layers:\n{log}")
    assert (kernel.kind, kernel.moved_bytes) == ("gemm", 2 * 4 * 128)


def logged(name: str, given: str, gives: str, rest: str) -> str:
    """A line of the builder's log, as enterprise TensorRT writes it."""
    inputs, outputs = (
        f"[ {{ Name: {end}, Location: Device, Dimensions: [1,8,4,4], Format/Datatype: {kind} }}]"
        for end, kind in (("x", given), ("y", gives))
    )
    return f"Name: {name}, LayerType: CaskConvolution, Inputs: {inputs}, Outputs: {outputs}{rest}"


CONVOLUTION = ", ParameterType: Convolution, Kernel: [3,3], Stride: [1,1], OutMaps: 8"
INTEGERS = '{"Type": "Int8", "Count": 216}, Bias: {"Type": "Float", "Count": 8}'


@pytest.mark.parametrize(
    ("line", "bits", "moved"),
    [
        (
            logged(
                "block.weight + QuantizeLinear_23 + block/Conv + PWN(block/Sigmoid, block/Mul)",
                INT8,
                INT8,
                f"{CONVOLUTION}, Weights: {INTEGERS}, TacticName: sm80_xmma_i8i8_i8i32_f32, "
                "TacticValue: 0x1, StreamId: 0, Metadata: ",
            ),
            (8, 8),
            2 * 128,
        ),
        (
            logged(
                "block.weight + QuantizeLinear_23 + block/Conv",
                INT8,
                "Channel major FP16 format where channel % 8 == 0",
                "",  # some versions stop here
            ),
            (8, 8),
            128 + 2 * 128,
        ),
        (
            logged(
                "block/Conv + relu",
                "Half",
                "Half",
                f'{CONVOLUTION}, Weights: {{"Type": "Half", "Count": 216}}, TacticName: '
                "sm80_xmma_f16f16_f16f16_f16, TacticValue: 0x1, StreamId: 0, "
                "Metadata: [ONNX Layer: block/Conv][ONNX Layer: relu]",
            ),
            (16, 16),
            2 * 2 * 128,
        ),
        (
            logged("block/Conv", "Row major linear FP32", "Row major linear FP32", CONVOLUTION),
            (32, 32),
            2 * 4 * 128,
        ),
    ],
    ids=["int8", "int8 to float16", "float16", "float32"],
)
def test_the_log_of_enterprise_tensorrt_is_read_as_the_inspector_is(line, bits, moved):
    other = logged("other/Conv", "Half", "Half", "")
    found = read_log(f"Layers:\n{other}\n{line}\n\nBindings:\nx\ny")
    assert executed_bits(found, ["block"]) == {"block": bits}
    assert (len(found), computing(found)["block/Conv"].int8) == (2, bits == (8, 8))
    assert found[1].moved_bytes == moved


def test_a_line_of_tensorrt_rtx():
    """Its constants are no traffic, and its formats stand apart from its types."""
    tensor = (
        "{{ Name: {}, Dimensions: [1,8,4,4], Strides: [128,1,32,8], StrideOrder: [3,0,2,1], "
        "Datatype: {}, Format: (NHWC) Channel major format }}"
    ).format
    (found,) = read_log(
        f"Name: first/Conv_myl0_1, LayerType: correlation, Inputs: [ {tensor('x', 'Int8')}], "
        f"Constants: [ {tensor('w', 'Int8')}, {tensor('b', 'Float')}], "
        f"Outputs: [ {tensor('y', 'Float')}], TacticName: __myelin_CASK_STUB, StreamId: 0, "
        "Metadata: [ONNX Layer: first/Conv][ONNX Layer: 0/FakeQuantize/DequantizeLinear]"
    )
    assert executed_bits([found], ["first"]) == {"first": (8, 8)}
    assert found.named == ("first/Conv",)
    assert found.moved_bytes == 128 + 4 * 128
