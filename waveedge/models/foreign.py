"""Say what a file is that is no checkpoint, and how to get one from it."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from waveedge.errors import CheckpointError

__all__ = ["SAVE", "refuse_attacks", "refuse_other_archives", "refuse_other_files"]

SAVE = "torch.save(model.state_dict(), 'model.pt')"

_FILES = (
    (rb"\s*<(!DOCTYPE|html|\?xml)", "a web page", "The download went wrong: ask for the raw file."),
    (rb"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself: git lfs pull"),
    (rb"\x89HDF", "an HDF5 file (Keras)", ""),
    (rb"....TFL3", "a TensorFlow Lite model", ""),
    (rb"\x1f\x8b", "a gzip archive", "Unpack it first: gunzip"),
    (
        rb"\x08[\x01-\x20]",
        "an ONNX model or another protocol buffer",
        "Save the weights of the torch network that it was exported from: "
        f"{SAVE}\nIf that is lost, try the weights in the ONNX file (their names may differ):\n"
        'python -c "import onnx, torch; from onnx.numpy_helper import to_array; '
        "torch.save({{w.name: torch.tensor(to_array(w)) "
        "for w in onnx.load('{name}').graph.initializer}}, 'weights.pt')\"",
    ),
)

_CALLS = re.compile(
    r"(os|posix|nt|subprocess|commands|shutil|socket|runpy|importlib|ctypes|pty|code|webbrowser"
    r"|pickle|_pickle|urllib\.request)\..*"
    r"|(builtins|__builtin__|io|_io)\.(eval|exec|execfile|compile|open|__import__|input|breakpoint)"
    r"|torch\.(load|serialization\.load|hub\..*|jit\..*)"
)


def refuse_other_files(path: Path, head: bytes) -> None:
    """Raise CheckpointError: by its first bytes, ``path`` is neither torch's nor safetensors."""
    for pattern, what, hint in _FILES:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            raise CheckpointError(
                f"{path} is not a checkpoint but {what}",
                hint=hint.format(name=_typed(path)) if hint else f"Save one with: {SAVE}",
            )
    raise CheckpointError(
        f"{path} is not a checkpoint: neither torch nor safetensors wrote it",
        hint=f"Save one with: {SAVE}",
    )


def _typed(path: Path) -> str:
    """Return a file's name for a line that people paste into a shell."""
    return path.name if re.fullmatch(r"[\w.-]+", path.name) else "FILE"


def refuse_other_archives(path: Path, entries: Collection[str]) -> None:
    """Raise CheckpointError where a zip archive with these entries is not of ``torch.save``."""
    names = {name.rpartition("/")[2] for name in entries}
    program = ""
    if "constants.pkl" in names:
        program, load = "a TorchScript program", "torch.jit.load('{}', 'cpu').state_dict()"
    elif "archive_format" in names or "serialized_exported_program.json" in names:
        program, load = "a program of torch.export", "torch.export.load('{}').state_dict"
    if program:
        raise CheckpointError(
            f"{path} is {program}, not a state dict",
            hint="If you trust where it comes from, take its weights with torch:\n"
            f"python -c \"import torch; torch.save({load.format(_typed(path))}, 'weights.pt')\"",
        )
    if "data.pkl" not in names:
        raise CheckpointError(
            f"{path} is a zip archive, but torch.save did not write it",
            hint=f"Save a checkpoint with: {SAVE}",
        )


def refuse_attacks(path: Path, names: Collection[str]) -> None:
    """Raise CheckpointError where a pickle names what no checkpoint needs, and attacks do.

    Nothing that it names is ever called here: this tells the user what they were given.
    """
    calls = [name for name in names if _CALLS.fullmatch(name)]
    if calls:
        raise CheckpointError(
            f"{path} was refused: loading it would run code, it calls {calls[0]}"[:300],
            hint="No network needs that. Ask its author for the weights alone, and do not try "
            "--trust-pickle: it would run that code.",
        )
