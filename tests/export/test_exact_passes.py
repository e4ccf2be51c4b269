"""Every pass that says it is exact, alone: it fires, and the graph computes what it computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx_ir.passes import common

from waveedge.export.fake_quantize import grid_of
from waveedge.export.graph_editing import constant, new_node, replace
from waveedge.export.passes import onnxruntime_kernels, uint8_encoding
from waveedge.export.passes.batch_norm import BatchNormToAffine
from waveedge.export.passes.gemm import MatMulToGemm
from waveedge.export.passes.global_pooling import MeanToGlobalAveragePool
from waveedge.export.passes.grouped_convolutions import MergeGroups
from waveedge.export.passes.int8_activations import Int8Activations
from waveedge.export.passes.int32_biases import Int32Biases
from waveedge.export.passes.integer_sigmoid import IntegerSigmoid
from waveedge.export.passes.integer_weights import Int8Weights
from waveedge.export.passes.offsets import Offsets
from waveedge.export.passes.padded_averages import PadAverages
from waveedge.export.passes.paddings import FoldCropIntoConvTranspose, FoldPadIntoConv
from waveedge.export.passes.requantize import Requantize
from waveedge.export.passes.shifted_parts import ReadShiftedParts
from waveedge.export.passes.simplify import Simplify
from waveedge.export.passes.slice_bounds import ResolveSliceBounds
from waveedge.export.passes.space_to_depth import SpaceToDepth
from waveedge.export.passes.split_transpositions import SplitTranspositions
from waveedge.export.passes.tiling import TileActivations
from waveedge.export.passes.uint8_activations import Uint8Activations
from waveedge.export.passes.uint8_weights import Uint8Weights
from waveedge.export.passes.unit_strides import UnitStrides
from waveedge.export.passes.zero_points import ShiftZeroPoints
from waveedge.export.targets import TARGETS

RANDOM = np.random.default_rng(0)
FULL, NARROW, UNSIGNED, MOSTLY, ODD = (
    f"waveedge.FakeQuantize <qmin = {low}, qmax = {high}, axis = -1>"
    for low, high in ((-128, 127), (-8, 7), (0, 15), (-8, 247), (-1, 14))
)
PER_ROW = "waveedge.FakeQuantize <qmin = -8, qmax = 7, axis = 0>"
ONE = np.float32(1)
STEP = np.float32(2.0**-5)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def steps(*shape: int) -> np.ndarray:
    return RANDOM.uniform(0.01, 0.05, shape).astype(np.float32)


def int8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def weight(shape: tuple[int, ...], scales: int) -> dict[str, np.ndarray]:
    return {"q": int8(*shape), "s": steps(scales), "z": np.zeros(scales, np.int8)}


UINT8 = {"step": STEP, "zero": np.array(128, np.uint8)}
ORIGIN = np.float32(128 / 255)
LINEAR = weight((8, 6), 6)
CONV = weight((4, 3, 3, 3), 4)
ACCUMULATOR = {"b": np.array([5, -3, 900, 0], np.float32) * (STEP * CONV["s"])}

PARTS = (
    "a = QuantizeLinear (x, step, zero) b = DequantizeLinear (a, step, zero) "
    "c = Slice (b, low, high, axes) d = Slice (b, all, end, axes) "
    "cq = QuantizeLinear (c, step, zero) cd = DequantizeLinear (cq, step, zero) "
    "dq = QuantizeLinear (d, step, zero) dd = DequantizeLinear (dq, step, zero) "
    "e = Concat <axis = 1> (cd, dd) f = QuantizeLinear (e, step, zero) "
    "h = DequantizeLinear (f, step, zero) w = DequantizeLinear <axis = 0> (q, s, z) "
)
CASES: list[tuple[type[ir.passes.PassBase], tuple[int, ...], str, dict[str, Any]]] = [
    (Int8Weights, (1, 3, 9, 7), f"a = {PER_ROW} (w, s) y = Conv (x, a)",
     {"w": floats(4, 3, 3, 3), "s": steps(4)}),
    (Int8Weights, (2, 5, 8), f"a = {PER_ROW} (w, s) b = Transpose <perm = [1, 0]> (a) "
     "y = MatMul (x, b)", {"w": floats(6, 8), "s": steps(6)}),
    (FoldPadIntoConv, (1, 3, 9, 7), "a = Pad (x, pads) y = Conv <pads = [1, 0, 0, 1]> (a, w)",
     {"w": floats(4, 3, 3, 3), "pads": integers(0, 0, 1, 0, 0, 0, 0, 2)}),
    (FoldPadIntoConv, (1, 3, 8, 5), f"a = {FULL} (x, step) b = Pad (a, pads) "
     f"c = {FULL} (b, step) y = Conv (c, w)",
     {"w": floats(4, 3, 3, 3), "pads": integers(0, 0, 1, 2, 0, 0, 0, 1), "step": STEP}),
    (FoldPadIntoConv, (1, 3, 8, 5), f"a = {FULL} (x, step) b = Pad (a, pads) "
     f"c = {NARROW} (b, wide) d = {FULL} (b, step) e = Conv (c, w) f = Conv (d, w) "
     "g = Conv (b, w) h = Add (e, f) y = Add (g, h)",
     {"w": floats(4, 3, 3, 3), "pads": integers(0, 0, 1, 2, 0, 0, 0, 1), "step": STEP,
      "wide": 5 * STEP}),
    (FoldCropIntoConvTranspose, (1, 4, 3, 2), "a = ConvTranspose <strides = [2, 2]> (x, w) "
     "b = Slice (a, low, high, axes) c = ConvTranspose <strides = [2, 2]> (b, w) "
     "y = Slice (c, low, high, axes)",
     {"w": floats(4, 4, 2, 2), "low": integers(0, 1), "high": integers(-1, 99),
      "axes": integers(2, 3)}),
    (MeanToGlobalAveragePool, (2, 3, 9, 7), "y = ReduceMean <keepdims = 1> (x, axes)",
     {"axes": integers(-1, 2)}),
    (BatchNormToAffine, (1, 6, 5, 7), f"a = BatchNormalization (x, w, b, m, v) "
     f"y = {FULL} (a, step)",
     {"w": floats(6), "b": floats(6), "m": floats(6), "v": 1 + steps(6), "step": STEP}),
    (MergeGroups, (1, 8, 3, 5), "a = ConvTranspose <group = 8, strides = [2, 2]> (x, w) "
     "y = ConvTranspose <group = 4> (a, v)", {"w": floats(8, 1, 2, 2), "v": floats(8, 1, 3, 3)}),
    (MergeGroups, (1, 8, 4, 3), "w = DequantizeLinear <axis = 1> (q, s, z) "
     "y = ConvTranspose <group = 4, strides = [2, 2]> (x, w)", weight((8, 2, 3, 3), 2)),
    (MatMulToGemm, (2, 3, 5, 8), f"a = {FULL} (x, step) w = DequantizeLinear <axis = 1> (q, s, z) "
     "c = MatMul (a, w) y = Add (b, c)", {**LINEAR, "b": floats(6), "step": STEP}),
    (Int32Biases, (1, 3, 9, 7), f"a = {FULL} (x, step) w = DequantizeLinear <axis = 0> (q, s, z) "
     "y = Conv (a, w, b)", {**CONV, **ACCUMULATOR, "step": STEP}),
    (Int8Activations, (1, 3, 9, 7), f"a = {NARROW} (x, step) b = Relu (a) y = {FULL} (b, step)",
     {"step": STEP}),
    (Uint8Activations, (1, 3, 9, 7), f"a = {NARROW} (x, step) b = Relu (a) "
     f"c = {UNSIGNED} (b, step) d = Clip (c, low, high) y = {FULL} (d, step)",
     {"step": STEP, "low": np.float32(0.1), "high": np.float32(0.3)}),
    (Int8Activations, (1, 3, 9, 7), f"a = {ODD} (x, step) b = Relu (a) y = {FULL} (b, step)",
     {"step": STEP}),
    (Uint8Activations, (1, 3, 9, 7), f"a = {MOSTLY} (x, step) b = Relu (a) "
     f"c = {MOSTLY} (b, wide) d = Clip (c, low, high) y = {ODD} (d, step)",
     {"step": STEP, "wide": 5 * STEP, "low": np.float32(0.1), "high": np.float32(2.3)}),
    *((Offsets, (1, 3, 9, 7), f"a = {MOSTLY} (x, step) w = DequantizeLinear <axis = 0> (q, s, z) "
       f"c = {conv} y = {MOSTLY} (c, wide)", {**CONV, **ACCUMULATOR, "step": STEP,
                                              "wide": 0.1 * ONE})
      for conv in ("Conv (a, w, b)", "Conv (a, w)", "Conv <pads = [1, 0, 2, 1]> (a, w, b)",
                   "Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (a, w)")),
    (Offsets, (1, 6, 5, 7), f"a = {MOSTLY} (x, step) w = DequantizeLinear <axis = 0> (q, s, z) "
     "y = Conv <group = 2, pads = [0, 1, 0, 1]> (a, w)", {**weight((4, 3, 1, 3), 4), "step": STEP}),
    *((Offsets, (5, 8), f"a = {MOSTLY} (x, step) w = DequantizeLinear <axis = {axis}> (q, s, z) "
       f"y = Gemm <transB = {transposed}, {more}> (a, w, b)",
       {**weight(shape, 6), "b": floats(6), "step": STEP})
      for axis, transposed, shape, more in (
          (0, 1, (6, 8), "beta = 1.0"), (1, 0, (8, 6), "alpha = 1.0"),
          (1, 0, (8, 6), "alpha = 2.0"))),
    (Offsets, (1, 3, 9, 7), f"a = {MOSTLY} (x, step) b = {MOSTLY} (x, wide) c = Sigmoid (a) "
     "d = Add (a, b) e = Add (b, n) f = Mul (d, e) g = Transpose <perm = [0, 1, 3, 2]> (a) "
     "h = Transpose <perm = [0, 1, 3, 2]> (g) i = Concat <axis = 2> (h, a) j = Concat <axis = 2> "
     "(b, a) k = Add (i, j) l = Concat <axis = 2> (f, c) y = Add (k, l)",
     {"n": floats(1, 3, 1, 1), "step": STEP, "wide": 3 * STEP}),
    (Offsets, (1, 3, 9, 7), f"a = {MOSTLY} (x, step) b = {FULL} (a, wide) c = {ODD} (a, wide) "
     f"d = Add (b, c) e = {MOSTLY} (d, step) w = DequantizeLinear <axis = 0> (q, s, z) "
     "f = Conv <pads = [1, 1, 1, 1]> (a, w) g = Slice (e, low, high, axes) h = Conv <pads = "
     "[0, 1, 0, 1]> (g, w) i = ReduceMean (f) j = ReduceMean (h) k = Add (i, j) y = Add (a, k)",
     {**CONV, "step": STEP, "wide": 3 * STEP, "low": integers(1), "high": integers(8),
      "axes": integers(3)}),
    (Offsets, (2, 3, 5, 4), f"a = Relu (x) y = {MOSTLY} (a, step)", {"step": STEP}),
    (Simplify, (1, 3, 9, 7), "a = Identity (x) b = Add (w, w) y = Mul (a, b)",
     {"w": floats(3, 1, 1)}),
    (IntegerSigmoid, (1, 3, 9, 7), "a = QuantizeLinear (x, step, zero) "
     "b = DequantizeLinear (a, step, zero) c = Mul (b, slope) y = Sigmoid (c)",
     {**UINT8, "slope": np.float32(1.7)}),
    (ShiftZeroPoints, (1, 3, 9, 7), "a = Sub (x, origin) b = QuantizeLinear (a, part, zero) "
     "c = DequantizeLinear (b, part, zero) y = Add (c, origin)",
     {**UINT8, "origin": ORIGIN, "part": np.float32(1 / 255)}),
    (ShiftZeroPoints, (1, 3, 9, 7), "a = Add (half, x) b = QuantizeLinear (a, step, zero) "
     "c = DequantizeLinear (b, step, zero) y = Sub (c, half)", {**UINT8, "half": np.float32(0.5)}),
    (Requantize, (1, 3, 9, 7), "a = QuantizeLinear (x, step, zero) "
     "b = DequantizeLinear (a, step, zero) c = QuantizeLinear (b, wide, zero) "
     "d = Clip (c, low, high) y = DequantizeLinear (d, wide, zero)",
     {**UINT8, "wide": 5 * STEP, "low": np.array(120, np.uint8),
      "high": np.array(135, np.uint8)}),
    (Requantize, (1, 3, 9, 7), "a = QuantizeLinear (x, step, zero) "
     "b = DequantizeLinear (a, step, zero) c = QuantizeLinear (b, step, other) "
     "y = DequantizeLinear (c, step, other)", {**UINT8, "other": np.array(8, np.uint8)}),
    *((ReadShiftedParts, (1, 6, *size), PARTS + "y = Conv (h, w)",
       {**UINT8, **weight((5, 6, kernel, kernel), 5), "all": integers(0, 0, 0),
        "end": integers(2, size[0] - 1, size[1]), "low": integers(2, 1, 0),
        "high": integers(6, size[0], size[1]), "axes": integers(1, 2, 3)})
      for size, kernel in (((9, 7), 1), ((8, 11), 3))),
    *((SplitTranspositions, shape, "a = QuantizeLinear (x, step, zero) "
       "b = DequantizeLinear (a, step, zero) "
       f"y = Transpose <perm = {order}> (b)", UINT8)
      for shape, order in (((2, 3, 799, 5), [0, 2, 1, 3]), ((5, 900, 4, 2, 3), [0, 2, 1, 3, 4]))),
    *((SpaceToDepth, (1, 3, *size), "a = QuantizeLinear (x, step, zero) "
       "b = DequantizeLinear (a, step, zero) w = DequantizeLinear <axis = 0> (q, s, z) "
       f"y = Conv <strides = [{stride}, {stride}]> (b, w)",
       {**UINT8, **weight((4, 3, kernel, kernel), 4)})
      for size, stride, kernel in (((132, 136), 4, 8), ((70, 74), 2, 6))),
    (TileActivations, (1, 64, 67, 64), "a = QuantizeLinear (x, step, zero) "
     "b = DequantizeLinear (a, step, zero) c = Gelu (b) d = Mul (c, m) "
     "e = QuantizeLinear (d, step, zero) y = DequantizeLinear (e, step, zero)",
     {**UINT8, "m": floats(1, 64, 1, 1)}),
    (Uint8Weights, (1, 3, 9, 7), "w = DequantizeLinear <axis = 0> (q, s, z) y = Conv (x, w)", CONV),
    (PadAverages, (1, 3, 9, 7), "a = QuantizeLinear (x, step, zero) "
     "b = DequantizeLinear (a, step, zero) y = AveragePool <kernel_shape = [3, 2], "
     "pads = [1, 0, 1, 1], count_include_pad = 1> (b)", UINT8),
    (UnitStrides, (1, 3, 3, 9), "y = Conv <strides = [2, 2]> (x, w)", {"w": floats(4, 3, 3, 3)}),
    (UnitStrides, (1, 3, 13, 4), "y = Conv <strides = [2, 3], pads = [1, 0, 0, 1], "
     "dilations = [1, 2]> (x, w)", {"w": floats(4, 3, 3, 3)}),
    (ResolveSliceBounds, (1, 3, 9, 7), "a = Slice (x, low, high, axes) b = Relu (a) "
     "y = Slice (b, all, high, axes)",
     {"low": integers(-5), "high": integers(2**40), "axes": integers(3), "all": integers(0)}),
]  # fmt: skip


def made(body: str, shape: tuple[int, ...], constants: dict[str, Any]) -> ir.Model:
    """A graph from ``x`` to ``y``, with the shapes of all its values."""
    text = ",".join(map(str, shape))
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20, "waveedge" : 1]> '
        f"made (float[{text}] x) => (float[{','.join('abcdef'[: len(shape)])}] y) {{ {body} }}"
    )
    for node in proto.graph.node:
        node.name = node.output[0]
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    model = ir.from_proto(proto)
    inferred = onnx.shape_inference.infer_shapes(standard(model), strict_mode=True)
    known = ir.convenience.create_value_mapping(ir.from_proto(inferred).graph)
    for value in (value for node in model.graph for value in node.outputs):
        value.shape, value.type = known[str(value.name)].shape, known[str(value.name)].type
    return model


def standard(model: ir.Model) -> onnx.ModelProto:
    """The graph with every FakeQuantize written out as what torch computes."""
    model = model.clone()
    for node in list(model.graph):
        if (grid := grid_of(node)) is None:
            continue
        shape = [-1, 1, 1, 1] if grid.axis == 0 else []
        rank = len(node.inputs[0].shape or ()) if node.inputs[0] is not None else 0
        step = constant(model.graph, f"{node.name}/s", grid.scale.reshape(shape[:rank] or ()))
        low, high = (
            constant(model.graph, f"{node.name}/{name}", np.array(value, np.float32))
            for name, value in (("low", grid.qmin), ("high", grid.qmax))
        )
        chain = [new_node(node, "Div", [node.inputs[0], step])]
        chain.append(new_node(node, "Round", chain[-1].outputs))
        chain.append(new_node(node, "Clip", [chain[-1].outputs[0], low, high]))
        chain.append(new_node(node, "Mul", [chain[-1].outputs[0], step]))
        replace(model.graph, node, chain)
    common.RemoveUnusedOpsetsPass()(model)
    return ir.to_proto(model)


def computed(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """What a graph gives, executed as it is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        standard(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: np.ndarray = session.run(None, {"x": x})[0]
    return result


@pytest.mark.parametrize(
    ("kind", "shape", "body", "constants"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_an_exact_pass_fires_and_changes_no_number(kind, shape, body, constants):
    model = made(body, shape, constants)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    wanted = computed(model, x)
    before = sorted(str(node) for node in model.graph)
    result = kind()(model)
    assert result.modified
    assert sorted(str(node) for node in result.model.graph) != before
    got = computed(result.model, x)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 1e-6 * np.abs(wanted).max()
    assert np.abs(wanted).max() > 0


def test_every_exact_pass_of_a_pipeline_has_a_case():
    stages = [uint8_encoding(), onnxruntime_kernels(saturates=True)]
    stages += [stage for target in TARGETS.values() for stage in target.pipeline("float32").passes]
    kinds = {type(step) for stage in stages for step in stage.passes}
    claimed = {kind for kind in kinds if getattr(kind, "exact", False)}
    assert claimed | {ResolveSliceBounds} == {case[0] for case in CASES}


@pytest.mark.parametrize(
    "kind",
    [
        FoldCropIntoConvTranspose,
        MatMulToGemm,
        MergeGroups,
        ReadShiftedParts,
        SpaceToDepth,
        SplitTranspositions,
        TileActivations,
        UnitStrides,
    ],
)
def test_a_pass_that_needs_sizes_leaves_a_graph_without_them_alone(kind):
    _, shape, body, constants = next(case for case in CASES if case[0] is kind)
    model = made(body, shape, constants)
    for value in (*model.graph.inputs, *(value for node in model.graph for value in node.outputs)):
        if value.shape is not None and len(value.shape) > 2 and value.name not in ("w", "v"):
            value.shape = ir.Shape([*value.shape[:2], "height", *value.shape[3:]])
    assert not kind()(model).modified


@pytest.mark.parametrize(
    "part",
    ["begins within the map", "is of wide layers", "is taken twice", "is on a grid of its own"],
)
def test_parts_that_are_no_gain_or_no_parts_of_one_map_stay(part):
    _, shape, body, constants = next(case for case in CASES if case[0] is ReadShiftedParts)
    constants = dict(constants)
    if part == "begins within the map":
        constants |= {"all": integers(0, 1, 0), "low": integers(2, 2, 0)}
        constants |= {"end": integers(2, 8, 7), "high": integers(6, 9, 7)}
    elif part == "is of wide layers":
        # 500 x 6 x 2 more multiply-adds for two copies.
        constants |= weight((500, 6, 1, 1), 500)
    elif part == "is taken twice":
        constants |= {"low": integers(0, 1, 0), "high": integers(4, 9, 7)}
    else:
        body = body.replace(
            "DequantizeLinear (cq, step, zero)", "DequantizeLinear (cq, half, zero)"
        )
        constants["half"] = STEP / 2
    model = made(body, shape, constants)
    assert not ReadShiftedParts(saturates=True)(model).modified


def test_a_kernel_that_reads_parts_is_still_known_by_its_weight_s_name():
    _, shape, body, constants = next(case for case in CASES if case[0] is ReadShiftedParts)
    model = made(body, shape, constants)
    assert ReadShiftedParts()(model).modified
    (layer,) = (node for node in model.graph if node.op_type == "Conv")
    # seen_in_graph() tells by it whether a runtime executes the layer in integers.
    assert layer.inputs[1].producer().inputs[0].name.startswith("q")


def test_a_parameter_that_has_the_name_of_a_pass_s_constant_keeps_its_value():
    body = f"a = Add (x, zero_point) y = {FULL} (a, step)"
    own = np.array([0.5], np.float32)
    model = made(body, (1, 3, 4, 5), {"zero_point": own, "step": STEP})
    x = np.random.default_rng(1).standard_normal((1, 3, 4, 5)).astype(np.float32)
    wanted = computed(model, x)
    Uint8Activations()(model)
    np.testing.assert_array_equal(computed(model, x), wanted)
    np.testing.assert_array_equal(model.graph.initializers["zero_point"].const_value.numpy(), own)
