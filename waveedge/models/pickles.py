"""Read a pickle without running it.

A pickle is a program: it names functions, and Python's unpickler imports and calls them. The
reader here walks through its instructions and looks nothing up. A name stays a text, a call
becomes a record of what would have been called, and only plain values, dictionaries and
descriptions of tensors are built, by the code below. Whatever a file names, none of it can run.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import torch
from torch import Tensor

__all__ = ["LIMIT", "Name", "StandIn", "Storage", "StoredTensor", "read_pickle"]

LIMIT = 32 << 20
"""Bytes that are read at most: enough for the description of 200 000 tensors."""

_INSTRUCTIONS = 4_000_000
"""Instructions that are carried out at most, in some ten seconds: enough for as many."""


@dataclass(frozen=True)
class Name:
    """A function or class that a pickle names, as ``module.name``."""

    text: str


@dataclass(eq=False)
class StandIn:
    """An object that was not made: what would have been called, and what it would have held.

    Attributes:
        name: of its class or function.
        arguments: of the call.
        state: its attributes.
        entries: its items, where it is a kind of dictionary.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    entries: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Storage:
    """The numbers behind one or more tensors, still in the file.

    Attributes:
        dtype: of an element; uint8 for a storage without a type.
        count: elements.
        read: reads them; a tensor of shape (count,).
    """

    dtype: torch.dtype
    count: int
    read: Callable[[], Tensor]


@dataclass(eq=False)
class StoredTensor:
    """A tensor that is still in the file: a view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def load(self) -> Tensor:
        """Read the numbers."""
        flat = self.storage.read().view(self.dtype)
        return flat.as_strided(self.shape, self.stride, self.offset)


def read_pickle(
    file: IO[bytes], storage: Callable[[Any], Any], names: dict[str, None] | None = None
) -> Any:
    """Read the next pickle of ``file``, up to and with its end.

    Args:
        file: at the pickle's first byte; at most :data:`LIMIT` bytes are read.
        storage: gives what a persistent id stands for, usually a :class:`Storage`.
        names: collects the names of functions and classes in the pickle.

    Returns:
        Numbers, texts, tuples, lists (sets too are lists), dictionaries (their entries with texts
        as keys), :class:`StoredTensor`, and a :class:`StandIn` for everything else.

    Raises:
        ValueError, TypeError, KeyError, IndexError, ...: the pickle is damaged. An instruction
            takes what it finds on the stack, so that damage shows as any of these.
    """
    machine = _Machine(storage, {} if names is None else names)
    instructions = pickletools.genops(_Bounded(file))  # type: ignore[arg-type]
    for number, (opcode, argument, _) in enumerate(instructions):
        if number > _INSTRUCTIONS:
            raise ValueError(f"it has more than {_INSTRUCTIONS} instructions")
        machine.step(opcode.name, argument)
    return machine.pop()


class _Bounded:
    """A file of which only so much is read, whatever length an instruction claims."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = LIMIT

    def read(self, size: int) -> bytes:
        return self._counted(self._file.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(self._left + 1))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"its description of the tensors is longer than {LIMIT >> 20} MiB")
        return data


class _Machine:
    """The stack machine that a pickle is written for, without its import and its call."""

    def __init__(self, storage: Callable[[Any], Any], names: dict[str, None]) -> None:
        self._storage = storage
        self._names = names
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one instruction."""
        push = self._stack.append
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE" | "EMPTY_SET":
                push({"EMPTY_DICT": {}, "EMPTY_TUPLE": ()}.get(opcode, []))
            case "MARK":
                self._marks.append(len(self._stack))
            case "POP":
                self.pop()
            case "POP_MARK":
                self._items()
            case "DUP":
                push(self._stack[-1])
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "TUPLE":
                push(tuple(self._items()))
            case "LIST" | "FROZENSET":
                push(self._items())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                self._stack[-count:] = [tuple(self._stack[-count:])]
            case "DICT":
                items = self._items()
                push({})
                self._fill(items)
            case "APPEND":
                self._extend([self.pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._items())
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self._fill([key, value])
            case "SETITEMS":
                self._fill(self._items())
            case "GLOBAL" | "STACK_GLOBAL" | "INST":
                self._name(opcode, argument)
            case "REDUCE" | "NEWOBJ":
                arguments, function = self.pop(), self.pop()
                push(_call(function, arguments))
            case "NEWOBJ_EX":
                _, arguments, function = self.pop(), self.pop(), self.pop()
                push(_call(function, arguments))
            case "OBJ":
                function, *rest = self._items()
                push(_call(function, tuple(rest)))
            case "BUILD":
                state, target = self.pop(), self._stack[-1]
                if isinstance(target, StandIn):
                    target.state = state[0] if isinstance(state, tuple) and state else state
            case "BINPERSID":
                push(self._storage(self.pop()))
            case _ if argument is not None and isinstance(
                argument, int | float | str | bytes | bytearray
            ):
                if opcode in ("PERSID", "EXT1", "EXT2", "EXT4"):
                    raise ValueError(f"it has the instruction {opcode}, which torch never writes")
                push(argument)
            case _:
                raise ValueError(f"it has the instruction {opcode}, which torch never writes")

    def pop(self) -> Any:
        """Take the last value off the stack."""
        return self._stack.pop()

    def _items(self) -> list[Any]:
        """Take everything since the last mark off the stack."""
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _name(self, opcode: str, argument: Any) -> None:
        items = self._items() if opcode == "INST" else []
        if opcode == "STACK_GLOBAL":
            name, module = self.pop(), self.pop()
            if not (isinstance(module, str) and isinstance(name, str)):
                raise ValueError("it names a function by something that is no text")
            text = f"{module}.{name}"
        else:
            text = argument.replace(" ", ".")
        self._names[text] = None
        self._stack.append(_call(Name(text), tuple(items)) if opcode == "INST" else Name(text))

    def _extend(self, items: list[Any]) -> None:
        # Never a method of what stands there: a file could choose whose.
        if type(self._stack[-1]) is list:
            self._stack[-1].extend(items)

    def _fill(self, items: list[Any]) -> None:
        target = self._stack[-1]
        entries = target.entries if isinstance(target, StandIn) else target
        if type(entries) is dict:
            # Weights have texts as names. The hash of another key is the file's to choose.
            pairs = zip(items[::2], items[1::2], strict=True)
            entries.update((key, value) for key, value in pairs if type(key) is str)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(arguments, tuple):
        raise TypeError("it calls something without a list of arguments")
    if not isinstance(function, Name):
        return StandIn("something without a name", arguments)
    make = _MAKERS.get(function.text)
    return StandIn(function.text, arguments) if make is None else make(*arguments)


def _dictionary(*arguments: Any) -> dict[str, Any]:
    pairs = arguments[0] if arguments and type(arguments[0]) is list else []
    return {pair[0]: pair[1] for pair in pairs if type(pair[0]) is str}


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, *_: Any, dtype: torch.dtype | None = None
) -> StoredTensor:
    """Describe a tensor; every element must lie in its storage."""
    shape, stride = tuple(shape), tuple(stride)
    if not isinstance(storage, Storage) or len(shape) != len(stride) or len(shape) > 64:
        raise ValueError("it describes a tensor that makes no sense")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (offset, *shape, *stride)):
        raise ValueError("it describes a tensor whose shape makes no sense")
    dtype = dtype or storage.dtype
    available = storage.count * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 in shape:  # torch wants a valid place for nothing, too
        offset, stride, last = 0, (0,) * len(shape), -1
    if last >= available:
        raise ValueError("a tensor reaches beyond the end of its data")
    return StoredTensor(storage, offset, shape, stride, dtype)


def _tensor_with_dtype(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, name: Any, *_: Any
) -> StoredTensor:
    return _tensor(storage, offset, shape, stride, dtype=_DTYPES[name.text])


def _first(value: Any, *_: Any) -> Any:
    return value


def _subclass(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """Return the plain tensor inside a subclass of Tensor (``as_subclass``, or attributes)."""
    return _call(function, arguments)


_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}

_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": lambda *_: {},
    "builtins.set": _first,
    "__builtin__.set": _first,
    "torch.Size": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _subclass,
}
