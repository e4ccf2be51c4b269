"""The tensors of a stored graph: hashed, with the weights of quantized layers as integers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from waveedge.bounds import Digest
from waveedge.nn import ActivationQuantizer, WeightQuantizer

from .container import DTYPES, Shape

__all__ = ["Role", "TensorRecord", "check_tensors", "fill", "pack", "stored_tensors", "unpack"]

Role = Literal["parameter", "frozen", "buffer", "temporary"]
"""Parameters are trained or frozen; temporary buffers stay out of the state dict."""

DType = Literal[
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"
]


class TensorRecord(BaseModel):
    """A tensor as the file holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    dtype: DType
    shape: Shape
    sha256: Digest
    """Over dtype, shape and bytes."""


def stored_tensors(graph: nn.Module, names: set[str]) -> dict[str, tuple[Tensor, TensorRecord]]:
    """Return the tensors of that name in ``graph`` as a file holds them.

    Raises:
        ValueError: a tensor has a type or a value that files do not hold.
    """
    _check_scales(graph)
    quantizers = dict(_weight_quantizers(graph))
    stored = {}
    for name, tensor, role in _tensors(graph):
        if name not in names:
            continue
        tensor = tensor.detach().cpu()
        if name in quantizers:
            integers = quantizers[name].integers(tensor)
            tensor = pack(integers) if quantizers[name].bits <= 4 else integers
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{name} is a tensor of {_dtype(tensor)}")
        # Tied weights share memory, which the format does not express.
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        record = TensorRecord(
            role=role,
            dtype=_dtype(tensor),  # type: ignore[arg-type]
            shape=tuple(tensor.shape),
            sha256=_digest(tensor),
        )
        stored[name] = tensor, record
    return stored


def check_tensors(tensors: Mapping[str, Tensor], records: Mapping[str, TensorRecord]) -> None:
    """Compare the tensors of a file with their records.

    Raises:
        ValueError: a tensor is missing, extra, or not what its record says.
    """
    for name in sorted(tensors.keys() ^ records.keys()):
        kind = "no record of" if name in tensors else "no"
        raise ValueError(f"it holds {kind} tensor {name[:100]}")
    for name, record in records.items():
        tensor = tensors[name]
        if (_dtype(tensor), tuple(tensor.shape)) != (record.dtype, record.shape):
            raise ValueError(f"tensor {name[:100]} differs from its recorded type or shape")
        if _digest(tensor) != record.sha256:
            raise ValueError(f"tensor {name[:100]} differs from its recorded hash")


def fill(graph: nn.Module, tensors: dict[str, Tensor], records: Mapping[str, TensorRecord]) -> None:
    """Put stored tensors into the places of a graph's, which hold shapes alone.

    Raises:
        ValueError: a tensor does not fit its place, or holds a value that makes no sense there.
    """
    places = {name: place for name, place, _ in _tensors(graph)}
    for name in sorted(places.keys() ^ tensors.keys()):
        raise ValueError(f"its layers have {'no' if name in tensors else 'a'} tensor {name[:100]}")
    quantizers = dict(_weight_quantizers(graph))
    for name, tensor in tensors.items():
        if name in quantizers:
            scale = tensors[f"{name.removesuffix('weight')}weight_quantizer.scale"]
            tensor = _weight(name, tensor, scale, quantizers[name], places[name].shape)
        kinds = (tensor.is_floating_point(), places[name].is_floating_point())
        if tensor.shape != places[name].shape or kinds[0] != kinds[1]:
            raise ValueError(
                f"tensor {name[:100]} has the shape {tuple(tensor.shape)} and the type "
                f"{tensor.dtype}, its layer needs {tuple(places[name].shape)} and "
                f"{places[name].dtype}"
            )
        _replace(graph, name, tensor, records[name].role)
    _check_scales(graph)


def pack(integers: Tensor) -> Tensor:
    """Pack int8 values of -8..7 two to a byte, the first in the low half."""
    flat = integers.flatten().to(torch.int16)
    if flat.numel() % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    pairs = (flat & 0xF).reshape(-1, 2)
    return (pairs[:, 0] | (pairs[:, 1] << 4)).to(torch.uint8)


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """Undo :func:`pack` for a tensor of ``shape``."""
    wide = packed.to(torch.int16)
    flat = torch.stack([wide & 0xF, wide >> 4], dim=1).flatten()[: shape.numel()]
    return torch.where(flat > 7, flat - 16, flat).to(torch.int8).reshape(shape)


def _weight(
    name: str, stored: Tensor, scale: Tensor, quantizer: WeightQuantizer, shape: torch.Size
) -> Tensor:
    """The weight of a quantized layer: its integers times their scales."""
    packed = quantizer.bits <= 4
    expected = (torch.uint8, ((shape.numel() + 1) // 2,)) if packed else (torch.int8, shape)
    if (stored.dtype, tuple(stored.shape)) != (expected[0], tuple(expected[1])):
        raise ValueError(f"tensor {name[:100]} holds no integers of {quantizer.bits} bits")
    if scale.shape != quantizer.scale.shape or not scale.is_floating_point():
        raise ValueError(f"the scales of {name[:100]} have the wrong shape or type")
    integers = unpack(stored, shape) if packed else stored
    if integers.numel() and int(integers.to(torch.int16).abs().max()) > quantizer.qmax:
        raise ValueError(f"tensor {name[:100]} holds integers beyond {quantizer.bits} bits")
    along = [-1 if dim == quantizer.axis else 1 for dim in range(integers.dim())]
    return integers * scale.reshape(along)


def _check_scales(graph: nn.Module) -> None:
    for name, module in graph.named_modules():
        if isinstance(module, ActivationQuantizer | WeightQuantizer):
            scale = module.scale
            if not bool((torch.isfinite(scale) & (scale >= torch.finfo(scale.dtype).tiny)).all()):
                raise ValueError(
                    f"tensor {name[:100]}.scale holds a scale that is no positive number"
                )


def _replace(graph: nn.Module, name: str, tensor: Tensor, role: Role) -> None:
    owner, _, leaf = name.rpartition(".")
    module = graph.get_submodule(owner)
    if (leaf in module._parameters) != (role in ("parameter", "frozen")):
        raise ValueError(f"tensor {name[:100]} is no {role}")
    if leaf in module._buffers:
        module._buffers[leaf] = tensor
        return
    if role == "parameter" and not tensor.is_floating_point():
        raise ValueError(f"tensor {name[:100]} holds integers, which nothing trains")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"tensor {name[:100]} holds a value that is no number")
    module._parameters[leaf] = nn.Parameter(tensor, requires_grad=role == "parameter")


def _tensors(graph: nn.Module) -> Iterator[tuple[str, Tensor, Role]]:
    """Every tensor under every name, with what it is."""
    for prefix, module in graph.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                yield (
                    f"{dot}{leaf}",
                    parameter,
                    "parameter" if parameter.requires_grad else "frozen",
                )
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                temporary = leaf in module._non_persistent_buffers_set
                yield f"{dot}{leaf}", buffer, "temporary" if temporary else "buffer"


def _weight_quantizers(graph: nn.Module) -> Iterator[tuple[str, WeightQuantizer]]:
    """Every (name of a weight, its quantizer)."""
    for name, module in graph.named_modules(remove_duplicate=False):
        if isinstance(module, WeightQuantizer):
            yield f"{name.removesuffix('weight_quantizer')}weight", module


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _digest(tensor: Tensor) -> str:
    kind = f"{_dtype(tensor)}{list(tensor.shape)}"
    data = tensor.reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(kind.encode() + data.tobytes()).hexdigest()
