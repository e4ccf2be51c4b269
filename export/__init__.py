"""torch -> ONNX in the encoding of a target, verified, linted, and built where it can be.

The lint and the comparison with torch can be used alone: :func:`waveedge.export.lint.lint`,
:func:`waveedge.export.verify.verify`. Names are resolved on first use.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from waveedge import lazy

if TYPE_CHECKING:
    from waveedge.export.torch_to_onnx import to_onnx
    from waveedge.export.verb import export
    from waveedge.export.write_bundle import Bundle, export_model
    from waveedge.runtime.engine_builder import Build, build_engine

__all__ = ["Build", "Bundle", "build_engine", "export", "export_model", "target_names", "to_onnx"]

_HOMES = {
    "Build": "waveedge.runtime.engine_builder",
    "Bundle": "waveedge.export.write_bundle",
    "build_engine": "waveedge.runtime.engine_builder",
    "export": "waveedge.export.verb",
    "export_model": "waveedge.export.write_bundle",
    "to_onnx": "waveedge.export.torch_to_onnx",
}


def __getattr__(name: str) -> Any:
    return lazy.attribute(__name__, _HOMES, name)


def target_names() -> list[str]:
    """The names of all targets, known without importing what they need."""
    folders = [f"{folder}/targets" for folder in __path__]
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(folders)]


class _Room(ModuleType):
    """The room is also the verb: ``waveedge.export(network, out, target="ort")``."""

    def __call__(self, *arguments: Any, **options: Any) -> Bundle:
        verb: Callable[..., Bundle] = __getattr__("export")
        return verb(*arguments, **options)


sys.modules[__name__].__class__ = _Room
