"""The stages from which targets make their pipelines: an encoding, then what a runtime likes."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import Sequential, common

from waveedge.export.passes.batch_norm import BatchNormToAffine
from waveedge.export.passes.gemm import MatMulToGemm
from waveedge.export.passes.global_pooling import MeanToGlobalAveragePool
from waveedge.export.passes.grouped_convolutions import MergeGroups
from waveedge.export.passes.half_precision import HalfPrecision
from waveedge.export.passes.int8_activations import Int8Activations
from waveedge.export.passes.int32_biases import Int32Biases, RoundBiases
from waveedge.export.passes.integer_sigmoid import IntegerSigmoid
from waveedge.export.passes.integer_weights import Int8Weights
from waveedge.export.passes.offsets import Offsets
from waveedge.export.passes.padded_averages import PadAverages
from waveedge.export.passes.paddings import FoldCropIntoConvTranspose, FoldPadIntoConv
from waveedge.export.passes.requantize import Requantize
from waveedge.export.passes.shifted_parts import ReadShiftedParts
from waveedge.export.passes.simplify import Simplify
from waveedge.export.passes.space_to_depth import SpaceToDepth
from waveedge.export.passes.split_transpositions import SplitTranspositions
from waveedge.export.passes.tiling import TileActivations
from waveedge.export.passes.uint8_activations import Uint8Activations
from waveedge.export.passes.uint8_weights import Uint8Weights
from waveedge.export.passes.unit_strides import UnitStrides
from waveedge.export.passes.zero_points import ShiftZeroPoints

__all__ = [
    "half_precision",
    "int8_encoding",
    "onnxruntime_kernels",
    "openvino_kernels",
    "plain",
    "uint8_encoding",
]


def int8_encoding() -> Sequential:
    """int8 with zero point 0, for any runtime."""
    return Sequential(
        Int8Weights(),
        MatMulToGemm(),
        RoundBiases(),
        Offsets(),
        Int8Activations(),
        *_standardized(),
    )


def uint8_encoding() -> Sequential:
    """uint8 activations, int32 biases, and few operators between layers."""
    return Sequential(
        Int8Weights(),
        FoldPadIntoConv(),
        FoldCropIntoConvTranspose(),
        MeanToGlobalAveragePool(),
        BatchNormToAffine(),
        MergeGroups(),
        MatMulToGemm(),
        RoundBiases(),
        Int32Biases(),
        Uint8Activations(),
        *_standardized(),
    )


def onnxruntime_kernels(*, saturates: bool) -> Sequential:
    """What onnxruntime's integer kernels on CPUs want.

    Args:
        saturates: whether the processor's int8 products do, so that weights must be uint8.
    """
    return Sequential(
        ShiftZeroPoints(),
        IntegerSigmoid(),
        _shapes(),
        SpaceToDepth(),
        ReadShiftedParts(saturates=saturates),
        common.RemoveUnusedNodesPass(),
        _shapes(),
        SplitTranspositions(),
        TileActivations(),
        Requantize(),
        *(_uint8_weights() if saturates else []),
        *_finished(),
        common.CheckerPass(full_check=True),
    )


def openvino_kernels(*, saturates: bool) -> Sequential:
    """What OpenVINO's kernels on CPUs want; ``saturates`` as for :func:`onnxruntime_kernels`."""
    return Sequential(
        _shapes(),
        PadAverages(),
        UnitStrides(),
        *(_uint8_weights() if saturates else []),
        *_finished(),
    )


def plain() -> Sequential:
    """Nothing of its own for any kernel."""
    return Sequential(*_finished())


def half_precision(dtype: ir.DataType) -> Sequential:
    """FLOAT16 or BFLOAT16 between input and outputs, written into the graph."""
    return Sequential(
        common.LiftConstantsToInitializersPass(),
        _shapes(),
        HalfPrecision(dtype),
        *_finished(),
        common.CheckerPass(full_check=True),
    )


def _uint8_weights() -> list[ir.passes.PassBase]:
    return [Uint8Weights(), common.RemoveUnusedNodesPass()]


def _standardized() -> list[ir.passes.PassBase]:
    """Behind an encoding, no operator of waveedge's own is left."""
    return [
        common.RemoveUnusedOpsetsPass(),
        Simplify(),
        common.CheckerPass(full_check=True),
    ]


def _shapes() -> ir.passes.PassBase:
    return common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)


def _finished() -> list[ir.passes.PassBase]:
    """Origins are for verification; in the file, names of nodes tell a reader enough."""
    return [common.ClearMetadataAndDocStringPass()]
