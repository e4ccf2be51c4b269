"""torch -> ONNX in the encoding of a target, verified, linted, and built where it can be."""

from waveedge.export.bundle import Bundle, Target, export_model
from waveedge.export.engine import Build, build_engine
from waveedge.export.lint import RULES, Finding, lint
from waveedge.export.torch_to_onnx import torch_to_onnx
from waveedge.export.verify import Verification, verify

__all__ = [
    "RULES",
    "Build",
    "Bundle",
    "Finding",
    "Target",
    "Verification",
    "build_engine",
    "export_model",
    "lint",
    "torch_to_onnx",
    "verify",
]
