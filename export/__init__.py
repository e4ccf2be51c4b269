"""torch -> ONNX in the encoding of a target, verified, linted, and built where it can be.

The lint and the comparison with torch can be used alone: :func:`waveedge.export.lint.lint`,
:func:`waveedge.export.verify.verify`. Names are resolved on first use.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waveedge.export.bundle import Bundle, export_model
    from waveedge.export.engine import Build, build_engine
    from waveedge.export.torch_to_onnx import to_onnx
    from waveedge.export.verb import export

__all__ = ["Build", "Bundle", "build_engine", "export", "export_model", "target_names", "to_onnx"]

_HOMES = {
    "Build": "waveedge.export.engine",
    "Bundle": "waveedge.export.bundle",
    "build_engine": "waveedge.export.engine",
    "export": "waveedge.export.verb",
    "export_model": "waveedge.export.bundle",
    "to_onnx": "waveedge.export.torch_to_onnx",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'waveedge.export' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def target_names() -> list[str]:
    """The names of all targets, known without importing what they need."""
    folders = [f"{folder}/targets" for folder in __path__]
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(folders)]


class _Room(ModuleType):
    """The room is also the verb: ``waveedge.export(network, out, target="ort")``."""

    def __call__(self, *arguments: Any, **options: Any) -> Bundle:
        from waveedge.export.verb import export

        return export(*arguments, **options)


sys.modules[__name__].__class__ = _Room
