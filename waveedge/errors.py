"""Every error a user can cause or meet, as one tree.

WaveedgeError                   the base: one clear message, exit status 1, no traceback
├── InputError                  something given to waveedge is wrong
│   ├── CheckpointError         a checkpoint cannot be read, or is not a network we know
│   ├── ImageError              calibration or test images cannot be used
│   └── RecipeError             a recipe or an option has a value that makes no sense
│       └── UsageError          the command line makes no sense, whatever the files hold: status 2
├── ArtifactError               a compressed artifact or an exported bundle is damaged or foreign
├── ExportError                 a network cannot be expressed for the chosen target
│   └── VerificationError       it was expressed, but its outputs differ from torch's
├── OutputError                 the result cannot be written (folder, rights, space)
└── MissingDependencyError      an optional library is not installed; the message says how to

A message has three parts: what is wrong, where, and what to do about it. This module and
``waveedge.extras``, which words hints, import nothing but the standard library, so that
``waveedge.runtime`` can use them on a device without torch.
"""

from __future__ import annotations

from waveedge.extras import install_line

__all__ = [
    "ArtifactError",
    "CheckpointError",
    "ExportError",
    "ImageError",
    "InputError",
    "MissingDependencyError",
    "OutputError",
    "RecipeError",
    "UsageError",
    "VerificationError",
    "WaveedgeError",
    "missing",
    "out_of_memory",
    "reason",
]


class WaveedgeError(Exception):
    """Base of all errors that waveedge raises on purpose.

    Args:
        what: what is wrong, and where (a file, a key, a layer, an option).
        hint: what to do about it; shown on a line of its own.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n{self.hint}" if self.hint else self.what


class InputError(WaveedgeError):
    """Something given to waveedge is wrong."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, or does not hold a network that waveedge knows."""


class ImageError(InputError):
    """Calibration or test images are missing, broken, or of no usable shape."""


class RecipeError(InputError):
    """A recipe or an option has a value that makes no sense."""


class UsageError(RecipeError):
    """The command line makes no sense, whatever the files hold; the exit status is 2."""


class ArtifactError(WaveedgeError):
    """A compressed artifact or an exported bundle is damaged, or not one of ours."""


class ExportError(WaveedgeError):
    """A network cannot be expressed for the chosen target."""


class VerificationError(ExportError):
    """An exported network computes something else than its torch original."""


class OutputError(WaveedgeError):
    """A result cannot be written: no folder, no rights, or no space."""


class MissingDependencyError(WaveedgeError):
    """An optional library is not installed; the hint is the one line that installs it."""


def missing(error: ModuleNotFoundError) -> MissingDependencyError | None:
    """Return what to tell where a device's installation lacks a library; None for any other."""
    if error.name not in _DESK:
        return None
    return MissingDependencyError(
        f"compressing and exporting need {error.name}, which is not installed here",
        hint=f"Install what a desk needs: {install_line('desk')}",
    )


_DESK = [
    "PIL",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxsim",
    "pydantic",
    "pywt",
    "safetensors",
    "torch",
    "yaml",
]
"""Modules of the libraries of the extra ``desk`` that waveedge imports itself."""


def reason(error: BaseException) -> str:
    """Return ``Type: text`` of an exception that foreign code raised, at most 500 characters.

    >>> reason(ValueError("no such layer"))
    'ValueError: no such layer'
    """
    try:
        text = str(error)
    except Exception:  # __str__ is foreign code too
        text = ""
    return f"{type(error).__name__}: {text[:500].strip()}".removesuffix(": ")


def out_of_memory(error: BaseException) -> bool:
    """Return whether Python, torch or onnxruntime raised ``error`` for want of memory."""
    text = reason(error)
    return isinstance(error, MemoryError) or any(phrase in text for phrase in _NO_MEMORY)


_NO_MEMORY = (
    "can't allocate memory",  # torch
    "std::bad_alloc",
    "Failed to allocate memory",  # onnxruntime
    "OutOfMemoryError",  # torch, on a GPU
)
