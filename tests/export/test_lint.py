"""Every rule on a graph that keeps it and on one that breaks it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from waveedge.export.lint import lint
from waveedge.export.lint_rules import RULES

FLOAT, INT8, UINT8 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8
X = ("x", FLOAT, [1, 4, 8, 8])


def graph(
    nodes: Sequence[NodeProto],
    constants: dict[str, np.ndarray | onnx.TensorProto] | None = None,
    *,
    inputs: Sequence[tuple[str, int, list]] = (X,),
    opset: int = 20,
) -> onnx.ModelProto:
    tensors = [
        value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, name)
        for name, value in (constants or {}).items()
    ]
    body = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [onnx.ValueInfoProto(name=nodes[-1].output[0])],
        tensors,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(op_type: str, inputs: list[str], output: str = "y", **attributes: object) -> NodeProto:
    outputs = [output, "indices"] if op_type == "TopK" else [output]
    return helper.make_node(op_type, inputs, outputs, name=f"layer/{op_type}", **attributes)


def constant(value: object, dtype: type = np.float32) -> np.ndarray:
    return np.array(value, dtype)


def tensor(kind: int, dims: list[int]) -> onnx.TensorProto:
    return helper.make_tensor("w", kind, dims, np.zeros(dims), raw=False)


SCALE = {"s": constant(0.1)}
ZERO = {"z": constant(0, np.int8)}


def quantized(
    name: str, out: str, kind: type = np.int8, zero: int = 0
) -> tuple[list[NodeProto], dict]:
    nodes = [
        node("QuantizeLinear", [name, "s", "zq"], f"{out}_q"),
        node("DequantizeLinear", [f"{out}_q", "s", "zq"], out),
    ]
    return nodes, {**SCALE, "zq": constant(zero, kind)}


def topk(k: int, **attributes: object) -> onnx.ModelProto:
    return graph(
        [node("TopK", ["x", "k"], axis=1, **attributes)],
        {"k": constant([k], np.int64)},
        inputs=[("x", FLOAT, [1, 8000])],
    )


def scatter(reduction: str) -> onnx.ModelProto:
    return graph(
        [node("ScatterElements", ["x", "i", "u"], axis=1, reduction=reduction)],
        {"i": constant([[0]], np.int64), "u": constant([[1.0]])},
        inputs=[("x", FLOAT, [1, 8])],
    )


def q_dq(kind: type, zero: int) -> onnx.ModelProto:
    nodes, constants = quantized("x", "y", kind, zero)
    return graph(nodes, constants)


def deconvolution(groups: int) -> onnx.ModelProto:
    nodes, constants = quantized("x", "xd")
    nodes += [
        node("DequantizeLinear", ["w", "s", "zq"], "wd"),
        node("ConvTranspose", ["xd", "wd"], group=groups),
    ]
    return graph(nodes, {**constants, "w": np.zeros((4, 2, 2, 2), np.int8)})


def join(op_type: str, *, both: bool) -> onnx.ModelProto:
    nodes, constants = quantized("x", "a")
    more, _ = quantized("x2", "b")
    attributes = {"axis": 1} if op_type == "Concat" else {}
    nodes += [*(more if both else []), node(op_type, ["a", "b" if both else "x2"], **attributes)]
    return graph(nodes, constants, inputs=[X, ("x2", FLOAT, [1, 4, 8, 8])])


def int4_conv(*, weights: bool) -> onnx.ModelProto:
    nodes = [
        node("DequantizeLinear", ["w", "s"], "d"),
        node("Conv", ["x", "d"] if weights else ["d", "x"]),
    ]
    return graph(nodes, {**SCALE, "w": tensor(TensorProto.INT4, [4, 4, 8, 8])}, opset=21)


CLEAN = graph([node("Relu", ["x"])])

CASES = {
    "standard-operators": (
        CLEAN,
        graph([helper.make_node("Magic", ["x"], ["y"], name="layer/Magic", domain="my")]),
    ),
    "opset": (CLEAN, graph([node("Relu", ["x"])], opset=21)),
    "static-channels": (
        graph([node("Relu", ["x"])], inputs=[("x", FLOAT, ["batch", 4, "height", "width"])]),
        graph([node("Relu", ["x"])], inputs=[("x", FLOAT, [1, "channels", 8, 8])]),
    ),
    "no-double": (CLEAN, graph([node("Cast", ["x"], to=TensorProto.DOUBLE)])),
    "topk-constant": (
        topk(10),
        graph([node("TopK", ["x", "k"])], inputs=[X, ("k", TensorProto.INT64, [1])]),
    ),
    "topk-sorted": (topk(10, sorted=1), topk(10, sorted=0)),
    "topk-limit": (topk(3840), topk(3841)),
    "scatter-reduction": (scatter("none"), scatter("add")),
    "no-nonzero": (CLEAN, graph([node("NonZero", ["x"])])),
    "no-bitwise": (
        CLEAN,
        graph([node("BitwiseNot", ["x"])], inputs=[("x", INT8, [1, 8])]),
    ),
    "zero-point": (q_dq(np.int8, 0), q_dq(np.int8, 3)),
    "no-uint8": (q_dq(np.int8, 0), q_dq(np.uint8, 0)),
    "int32-bias": (
        CLEAN,
        graph([node("DequantizeLinear", ["b", "s"])], {**SCALE, "b": constant([1], np.int32)}),
    ),
    "int4-weights": (deconvolution(1), int4_conv(weights=True)),
    "int4-activations": (deconvolution(1), int4_conv(weights=False)),
    "no-fp8": (
        q_dq(np.int8, 0),
        graph(
            [node("QuantizeLinear", ["x", "s", "f8"])],
            {**SCALE, "f8": helper.make_tensor("f8", TensorProto.FLOAT8E4M3FN, [], [0.0])},
        ),
    ),
    "grouped-int8-deconvolution": (deconvolution(1), deconvolution(2)),
    "one-sided-join": (join("Add", both=True), join("Concat", both=False)),
}


def test_every_rule_is_tested():
    assert set(CASES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", CASES)
def test_a_graph_that_keeps_the_rule(rule):
    assert rule not in {finding.rule for finding in lint(CASES[rule][0])}


@pytest.mark.parametrize("rule", CASES)
def test_a_graph_that_breaks_the_rule(rule):
    findings = [finding for finding in lint(CASES[rule][1]) if finding.rule == rule]
    assert findings
    for finding in findings:
        assert finding.layer.startswith(("layer/", "x"))
        assert finding.mend.endswith(".")
        assert finding.layer in str(finding)
        assert rule in str(finding)


def test_a_uint8_quantizer_without_zero_point_is_found():
    """QuantizeLinear gives uint8 when nothing says otherwise."""
    broken = graph([node("QuantizeLinear", ["x", "s"])], SCALE)
    assert "no-uint8" in {finding.rule for finding in lint(broken)}


def test_levels():
    """What only costs speed is a warning; the other rules decide over an engine."""
    warnings = {rule.name for rule in RULES if rule.level == "warning"}
    assert warnings == {"grouped-int8-deconvolution", "one-sided-join"}
