"""The passes of each target, in order: what export, autotuning and benchmarks all run.

A pipeline has two stages, ``encode, specialize = pipeline(target).passes``:

1. *Encode* writes quantization as the target wants it, in standard operators, simplified and
   checked. Layers and quantizers are still torch's, each with its origin as metadata: this is the
   graph that verification cuts at the quantizers.
2. *Specialize* rearranges it for the kernels of a runtime and clears the metadata: this ships.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import Sequential, common

from waveedge.export.passes.batch_norm import BatchNormToAffine
from waveedge.export.passes.biases import Int32Biases, RoundBiases
from waveedge.export.passes.gemm import MatMulToGemm
from waveedge.export.passes.global_pooling import MeanToGlobalAveragePool
from waveedge.export.passes.grouped_convolutions import MergeGroups
from waveedge.export.passes.int8_activations import Int8Activations
from waveedge.export.passes.integer_sigmoid import IntegerSigmoid
from waveedge.export.passes.integer_weights import Int8Weights
from waveedge.export.passes.paddings import FoldCropIntoConvTranspose, FoldPadIntoConv
from waveedge.export.passes.simplify import Simplify
from waveedge.export.passes.space_to_depth import SpaceToDepth
from waveedge.export.passes.tiling import TileActivations
from waveedge.export.passes.uint8_activations import Uint8Activations
from waveedge.export.passes.uint8_weights import Uint8Weights
from waveedge.export.targets import Target
from waveedge.runtime.machine import int8_saturates

__all__ = ["onnx_pipeline", "ort_pipeline", "pipeline", "trt_pipeline"]


def pipeline(target: Target) -> Sequential:
    """The pipeline of a target. It changes the model that it is given."""
    if target == "ort":
        return ort_pipeline(saturates=int8_saturates())
    return onnx_pipeline() if target == "onnx" else trt_pipeline()


def onnx_pipeline() -> Sequential:
    """int8 with zero point 0, for any runtime."""
    encode = Sequential(
        Int8Weights(), MatMulToGemm(), RoundBiases(), Int8Activations(), *_standardized()
    )
    return Sequential(encode, Sequential(*_finished()))


def trt_pipeline() -> Sequential:
    """The same for TensorRT, which takes this encoding and no other."""
    return onnx_pipeline()


def ort_pipeline(*, saturates: bool) -> Sequential:
    """uint8 for onnxruntime on CPUs.

    Args:
        saturates: whether the processor's int8 products do, so that weights must be uint8.
    """
    encode = Sequential(
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
    specialize = Sequential(
        IntegerSigmoid(),
        _shapes(),
        SpaceToDepth(),
        common.RemoveUnusedNodesPass(),
        _shapes(),
        TileActivations(),
        *([Uint8Weights(), common.RemoveUnusedNodesPass()] if saturates else []),
        *_finished(),
        common.CheckerPass(full_check=True),
    )
    return Sequential(encode, specialize)


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
