"""torch -> ONNX in the encoding of a target, verified, linted, and built where it can be.

The lint and the comparison with torch can be used alone: :func:`waveedge.export.lint.lint`,
:func:`waveedge.export.verify.verify`.
"""

from __future__ import annotations

import sys
from types import ModuleType

from waveedge.export.bundle import Bundle, Target, export_model
from waveedge.export.engine import Build, build_engine
from waveedge.export.torch_to_onnx import to_onnx
from waveedge.export.verb import export

__all__ = ["Build", "Bundle", "Target", "build_engine", "export", "export_model", "to_onnx"]


class _Room(ModuleType):
    """The room is also the verb: ``waveedge.export(network, out, target="ort")``."""

    __call__ = staticmethod(export)


sys.modules[__name__].__class__ = _Room
