"""Read the tensors of a checkpoint file, whatever its ending, without running code from it.

A file is what its first bytes say: a zip archive or a pickle that ``torch.save`` wrote, or
safetensors. The reader refuses everything else and says what it found instead.
"""

from __future__ import annotations

import argparse
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open

from waveedge.errors import CheckpointError

__all__ = ["Weights", "read_weights"]

_ZIP, _PICKLE, _SAFETENSORS = "zip", "pickle", "safetensors"

_FOREIGN = (
    (rb"\s*<(!DOCTYPE|html|\?xml)", "a web page", "The download went wrong: ask for the raw file."),
    (rb"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself: git lfs pull"),
    (rb"\x89HDF", "an HDF5 file (Keras)", ""),
    (rb"....TFL3", "a TensorFlow Lite model", ""),
    (rb"\x1f\x8b", "a gzip archive", "Unpack it first: gunzip"),
    (rb"\x08[\x01-\x20]", "an ONNX model or another protocol buffer", ""),
)

_SAVE = "torch.save(model.state_dict(), 'model.pt')"

# What torch.save itself writes, and what training scripts commonly store beside the weights.
_PLAIN = re.compile(
    r"collections\.OrderedDict|torch\._utils\.\w+|torch\.\w*Storage|torch\.storage\.\w+"
    r"|torch\.(Size|device|dtype|nn\.parameter\.\w+|serialization\._get_layout)"
    r"|argparse\.Namespace|numpy\.dtypes?.*|numpy\._?core\.multiarray\.scalar|_codecs\.encode"
)
_RUNS_CODE = re.compile(
    r"(os|posix|nt|sys|subprocess|shutil|socket|runpy|importlib|ctypes|pty|code|webbrowser|pickle"
    r"|urllib|http|multiprocessing|threading|signal|asyncio)(\..*)?"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|getattr|setattr|__import__|input)"
    r"|torch\.(load|hub\..*|jit\..*)|operator\..*|functools\.partial"
)


@dataclass(frozen=True)
class Weights:
    """The content of a checkpoint file.

    Attributes:
        content: what ``torch.load`` returned, or the tensors of a safetensors file by name.
        metadata: the metadata of a safetensors file.
    """

    content: Any
    metadata: dict[str, str] = field(default_factory=dict)


def read_weights(path: Path, *, trust_pickle: bool = False) -> Weights:
    """Read a checkpoint file onto the CPU.

    Args:
        path: a file that ``torch.save`` or safetensors wrote.
        trust_pickle: let a pickle create any Python object, that is: run code from the file.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it is something else.
    """
    kind = _kind(path)
    if kind == _SAFETENSORS:
        return _read_safetensors(path)
    if kind == _ZIP:
        _check_archive(path)
    try:
        return Weights(_torch_load(path, trust_pickle=trust_pickle))
    except UnpicklingError as error:
        # With trust given there is nothing to refuse: the pickle itself is broken.
        raise (_damaged(path, error) if trust_pickle else _refusal(path, kind)) from error
    except (RuntimeError, EOFError) as error:
        raise _damaged(path, error) from error
    except Exception as error:
        if trust_pickle and isinstance(error, (ImportError, AttributeError)):
            raise CheckpointError(
                f"{path} holds objects of Python code that is not installed here: {error}",
                hint=f"Install that package, or save the weights alone: {_SAVE}",
            ) from error
        # Given flipped bits, an unpickler may stumble over anything.
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _torch_load(path: Path, *, trust_pickle: bool) -> Any:
    harmless = [argparse.Namespace, *_numpy_scalars()]
    with torch.serialization.safe_globals(harmless), warnings.catch_warnings():
        # torch warns about unusual pickles just before it refuses them; the refusal says enough.
        warnings.simplefilter("ignore")
        # An open file: given a name, torch goes by its ending.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=not trust_pickle)


def _numpy_scalars() -> list[Any]:
    """Return what a pickled numpy number is made of: ``best_score`` is often one."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    dtypes = [np.dtype, *(type(np.dtype(name)) for name in ("float32", "float64", "int64"))]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    return [*dtypes, *((scalar, name) for name in names)]


def _kind(path: Path) -> str:
    try:
        if path.is_dir():
            raise CheckpointError(
                f"{path} is a folder, not a checkpoint", hint="Name the file inside it."
            )
        with path.open("rb") as file:
            head = file.read(64)
            size = file.seek(0, 2)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist", hint=f"The current folder is {Path.cwd()}."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}", hint="Check the file's rights."
        ) from error
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes)", hint="Copy or download it again.")
    if head.startswith(b"PK"):
        return _ZIP
    if len(head) > 8 and head[8:9] == b"{":
        header = int.from_bytes(head[:8], "little")
        if 8 + header > size:
            raise _damaged(path, f"its header should have {header} bytes, the file has {size}")
        return _SAFETENSORS
    if head.startswith(b"\x80"):
        return _PICKLE
    for pattern, name, hint in _FOREIGN:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            raise CheckpointError(
                f"{path} is not a checkpoint but {name}", hint=hint or f"Save one with: {_SAVE}"
            )
    raise CheckpointError(
        f"{path} is not a checkpoint: neither torch nor safetensors wrote it",
        hint=f"Save one with: {_SAVE}",
    )


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return Weights(tensors, file.metadata() or {})
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _check_archive(path: Path) -> None:
    """Check a zip archive's structure and checksums: torch would load flipped bits in silence."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            broken = archive.testzip()
    except Exception as error:
        # Its table of contents is its end, the first part to be lost; zipfile raises anything.
        raise _damaged(path, f"a zip archive without a readable end ({error})") from error
    if broken is not None:
        raise _damaged(path, f"the checksum of {broken} is wrong")
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path} is a TorchScript program, not a state dict",
            hint=f"Save the weights of the Python module it came from: {_SAVE}",
        )
    if "data.pkl" not in names:
        raise CheckpointError(
            f"{path} is a zip archive, but torch.save did not write it",
            hint=f"Save a checkpoint with: {_SAVE}",
        )


def _damaged(path: Path, reason: object) -> CheckpointError:
    lines = str(reason).strip().splitlines()
    return CheckpointError(
        f"{path} is damaged or truncated: {lines[0] if lines else 'unexpected end of file'}",
        hint="Copy or download it again, and compare its size with the original's.",
    )


def _refusal(path: Path, kind: str) -> CheckpointError:
    """Explain why torch refused to unpickle the file."""
    try:
        objects = [name for name in _objects(path, kind) if not _PLAIN.fullmatch(name)]
    except Exception as error:
        return _damaged(path, error)
    dangerous = [name for name in objects if _RUNS_CODE.fullmatch(name)]
    if dangerous:
        return CheckpointError(
            f"{path} was refused: loading it would run code, it calls {dangerous[0]}",
            hint="No network needs that. Ask its author for the weights alone, and do not try "
            "--trust-pickle: it would run that code.",
        )
    if objects:
        more = f" and {len(objects) - 1} more" if len(objects) > 1 else ""
        return CheckpointError(
            f"{path} was refused: it is a pickle of Python objects ({objects[0]}{more}), not of "
            "weights alone, and loading those can run any code",
            hint=f"Save the weights alone: {_SAVE}\n"
            "Or, if you trust where the file comes from, add --trust-pickle.",
        )
    return CheckpointError(
        f"{path} is a pickle, but torch.save did not write it", hint=f"Save it with: {_SAVE}"
    )


def _objects(path: Path, kind: str) -> list[str]:
    """List the Python names that a pickle asks for, in order; nothing is imported."""
    found: dict[str, None] = {}
    if kind == _ZIP:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as file:
                found.update(dict.fromkeys(_globals(file)))
    else:
        with path.open("rb") as file:
            # The older torch format: magic number, version and system before the objects.
            for _ in range(4):
                found.update(dict.fromkeys(_globals(file)))
                if file.peek(1)[:1] != b"\x80":
                    break
    return list(found)


def _globals(file: IO[bytes]) -> Iterator[str]:
    texts: list[str] = []
    memo: dict[Any, str] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif opcode.name == "MEMOIZE" or opcode.name.endswith("PUT"):
            memo[len(memo) if argument is None else argument] = texts[-1] if texts else ""
        elif opcode.name.endswith("GET"):
            texts.append(memo.get(argument, ""))
        elif isinstance(argument, str):
            texts.append(argument)
