"""Open a checkpoint file, whatever its ending, without running code from it.

A file is what its first bytes say: a zip archive or a pickle that ``torch.save`` wrote,
safetensors, or the index of a checkpoint in several files. Everything else is refused, with a
word on what it is instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from waveedge.errors import CheckpointError
from waveedge.files import require_regular
from waveedge.models.containers import open_sequence, open_zip
from waveedge.models.foreign import SAVE, refuse_attacks, refuse_other_files
from waveedge.models.shards import find_index, part_of, read_index

__all__ = ["Weights", "open_weights"]

_HEADER_LIMIT = 32 << 20
"""Bytes of a safetensors header, at most: enough for 200 000 tensors."""


@dataclass(frozen=True)
class Weights:
    """The content of a checkpoint.

    Attributes:
        content: dictionaries, values and tensors as :mod:`waveedge.models.pickles` gives them, or
            the tensors of a safetensors file by name.
        metadata: the metadata of a safetensors file.
        files: where it lies; several for a checkpoint in parts, the index first.
        size: bytes of the files together.
    """

    content: Any
    metadata: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        return sum(file.stat().st_size for file in self.files)


@contextmanager
def open_weights(path: Path, *, trust_pickle: bool = False) -> Iterator[Weights]:
    """Open a checkpoint; its tensors can be loaded inside the block.

    Args:
        path: a file that ``torch.save`` or safetensors wrote; or the index of several such files
            (``model.safetensors.index.json``), or the folder of one.
        trust_pickle: let a pickle create any Python object, that is: run code from the file.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it is something else.
    """
    index = find_index(path)
    with ExitStack() as stack:
        if index is None:
            yield stack.enter_context(_open_file(path, trust_pickle=trust_pickle))
            return
        _head(index)
        content: dict[str, Any] = {}
        shards = read_index(index)
        for shard, names in shards.items():
            weights = stack.enter_context(_open_file(shard, part=True))
            missing = [name for name in names if name not in weights.content]
            if missing:
                raise CheckpointError(
                    f"{index} says that {shard.name} holds {missing[0]}, which it does not",
                    hint="Copy or download the whole folder again.",
                )
            content.update((name, weights.content[name]) for name in names)
        yield Weights(content, files=(index, *shards))


@contextmanager
def _open_file(path: Path, *, part: bool = False, trust_pickle: bool = False) -> Iterator[Weights]:
    """Open one file; ``part``: as a part of a checkpoint, which is then no reason to refuse it."""
    head = _head(path)
    if not part:
        _refuse_a_part(path)
    if len(head) > 8 and head[8:9] == b"{":
        yield _read_safetensors(path, int.from_bytes(head[:8], "little"))
        return
    if not head.startswith((b"PK", b"\x80")):
        refuse_other_files(path, head)
    if trust_pickle:
        yield Weights(_unpickle(path), files=(path,))
        return
    names: dict[str, None] = {}
    container = open_zip if head.startswith(b"PK") else open_sequence
    with ExitStack() as stack:
        try:
            content = stack.enter_context(container(path, names))
        except Exception as error:
            refuse_attacks(path, names)
            if isinstance(error, CheckpointError):
                raise
            # Given flipped bits, a reader may stumble over anything.
            raise damaged(path, error) from error
        refuse_attacks(path, names)
        yield Weights(content, files=(path,))


def damaged(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a file that was cut or changed."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return CheckpointError(
        f"{path} is damaged or truncated: {reason}",
        hint="Copy or download it again, and compare its size with the original's.",
    )


def _head(path: Path) -> bytes:
    """Return the first bytes of a regular file that is not empty."""
    try:
        # Asked before it is opened: opening a FIFO waits, and reading a device may do anything.
        require_regular(path)
        if path.is_dir():
            raise CheckpointError(
                f"{path} is a folder, not a checkpoint", hint="Name the file inside it."
            )
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist", hint=f"The current folder is {Path.cwd()}."
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{str(path)[:200]} cannot be read: {reason}", hint="Check its name and its rights."
        ) from error
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes)", hint="Copy or download it again.")
    return head


def _refuse_a_part(path: Path) -> None:
    part = part_of(path)
    if part is not None:
        number, parts, index = part
        raise CheckpointError(
            f"{path} is part {number} of {parts} of a checkpoint",
            hint=f"Name the index, which names all parts: {index}"
            if index
            else "Copy the other parts and the .index.json file into its folder, and name the "
            "latter.",
        )


def _read_safetensors(path: Path, header: int) -> Weights:
    size = path.stat().st_size
    if 8 + header > size:
        raise damaged(
            path, ValueError(f"its header should have {header} bytes, the file has {size}")
        )
    if header > _HEADER_LIMIT:
        raise damaged(
            path,
            ValueError(
                f"its header has {header >> 20} MiB, no checkpoint needs more than "
                f"{_HEADER_LIMIT >> 20}"
            ),
        )
    try:
        with _name_in_utf8(path) as name, safe_open(name, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return Weights(tensors, file.metadata() or {}, (path,))
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise damaged(path, error) from error


@contextmanager
def _name_in_utf8(path: Path) -> Iterator[Path]:
    """Give a name for the file that the library of safetensors can take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield Path(f"/dev/fd/{file.fileno()}")
    else:
        yield path


def _unpickle(path: Path) -> Any:
    """Let torch unpickle a file that the user trusts."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # An open file: given a name, torch goes by its ending.
            return torch.load(file, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"{path} holds objects of Python code that is not installed here: {error}",
            hint=f"Install that package, or save the weights alone: {SAVE}",
        ) from error
    except Exception as error:
        raise damaged(path, error) from error
