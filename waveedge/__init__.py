"""waveedge: compress wavelet CNNs, export them to ONNX and TensorRT, measure them on devices.

The four verbs of the command line are the Python API::

    model = waveedge.load("model.pt")
    small = waveedge.compress(model, bits=8, wcc_ratio=0.5)
    bundle = waveedge.export(small, "out", target="ort")
    print(waveedge.benchmark(bundle.path))

Names are resolved on first use, so that ``waveedge.runtime`` works on a device without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waveedge import export
    from waveedge.artifact import load_artifact, save_artifact
    from waveedge.checkpoint import load
    from waveedge.compression.compress import compress
    from waveedge.compression.recipe import Recipe
    from waveedge.runtime.benchmark import benchmark
    from waveedge.runtime.session import Session
    from waveedge.spec import ModelSpec, Preprocessing

__version__ = "0.1.0"

__all__ = [
    "ModelSpec",
    "Preprocessing",
    "Recipe",
    "Session",
    "__version__",
    "benchmark",
    "compress",
    "export",
    "load",
    "load_artifact",
    "save_artifact",
]

_HOMES = {
    "ModelSpec": ("waveedge.spec", "ModelSpec"),
    "Preprocessing": ("waveedge.spec", "Preprocessing"),
    "Recipe": ("waveedge.compression.recipe", "Recipe"),
    "Session": ("waveedge.runtime.session", "Session"),
    "benchmark": ("waveedge.runtime.benchmark", "benchmark"),
    "compress": ("waveedge.compression.compress", "compress"),
    "load": ("waveedge.checkpoint", "load"),
    "load_artifact": ("waveedge.artifact", "load_artifact"),
    "save_artifact": ("waveedge.artifact", "save_artifact"),
}


def __getattr__(name: str) -> Any:
    if name == "export":  # the room is also the verb: the module is callable
        return import_module("waveedge.export")
    if name not in _HOMES:
        raise AttributeError(f"module 'waveedge' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
