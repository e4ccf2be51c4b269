"""waveedge: compress wavelet CNNs, export them to ONNX and TensorRT, measure them on devices.

The verbs of the command line are the Python API::

    model = waveedge.load("model.pt")
    small = waveedge.compress(model, bits=8, wcc_ratio=0.5)
    waveedge.export(small, "out", target="ort")
    print(waveedge.benchmark("out"))

A network is any ``torch.nn.Module`` that takes images, what ``compress`` returned, or the path of
a file; images are arrays, tensors, a DataLoader, or a folder (docs/python.md).

Names are resolved on first use, so that ``waveedge.runtime`` works on a device without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waveedge import lazy
from waveedge.errors import (
    ArtifactError,
    CheckpointError,
    ExportError,
    ImageError,
    InputError,
    MissingDependencyError,
    OutputError,
    RecipeError,
    VerificationError,
    WaveedgeError,
)

if TYPE_CHECKING:
    from waveedge.artifact import load_artifact, save_artifact
    from waveedge.calibration import ImageSet, open_images
    from waveedge.checkpoint import load, save_checkpoint
    from waveedge.compression.compress import compress
    from waveedge.compression.compressed import Compressed
    from waveedge.compression.recipe import Recipe
    from waveedge.description import inspect
    from waveedge.export import Bundle, export
    from waveedge.finetune import tune
    from waveedge.runtime.benchmark import benchmark
    from waveedge.runtime.report import Comparison
    from waveedge.runtime.session import Session
    from waveedge.spec import ModelSpec, Preprocessing

__version__ = "0.2.0"

__all__ = [
    "ArtifactError",
    "Bundle",
    "CheckpointError",
    "Comparison",
    "Compressed",
    "ExportError",
    "ImageError",
    "ImageSet",
    "InputError",
    "MissingDependencyError",
    "ModelSpec",
    "OutputError",
    "Preprocessing",
    "Recipe",
    "RecipeError",
    "Session",
    "VerificationError",
    "WaveedgeError",
    "__version__",
    "benchmark",
    "compress",
    "export",
    "inspect",
    "load",
    "load_artifact",
    "open_images",
    "save_artifact",
    "save_checkpoint",
    "tune",
]

_HOMES = {
    "Bundle": "waveedge.export",
    "Comparison": "waveedge.runtime.report",
    "Compressed": "waveedge.compression.compressed",
    "ImageSet": "waveedge.calibration",
    "ModelSpec": "waveedge.spec",
    "Preprocessing": "waveedge.spec",
    "Recipe": "waveedge.compression.recipe",
    "Session": "waveedge.runtime.session",
    "benchmark": "waveedge.runtime.benchmark",
    "compress": "waveedge.compression.compress",
    "inspect": "waveedge.description",
    "load": "waveedge.checkpoint",
    "load_artifact": "waveedge.artifact",
    "open_images": "waveedge.calibration",
    "save_artifact": "waveedge.artifact",
    "save_checkpoint": "waveedge.checkpoint",
    "tune": "waveedge.finetune",
}


def __getattr__(name: str) -> Any:
    if name == "export":  # the room is also the verb: the module is callable
        return lazy.module("waveedge.export")
    return lazy.attribute(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
