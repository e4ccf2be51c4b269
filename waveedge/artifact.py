"""The compressed artifact: one ``.safetensors`` file that holds a network and how it was made.

The metadata is JSON under the key ``waveedge.artifact``: specification, recipe, WCC decisions,
hashes of the source and of the calibration images, report, tool version. Quantized weights are
stored as the integers they are (int8; two to a byte up to 4 bits), everything else as float32.
Loading builds the structure from the metadata and fills in the state; no code runs from the file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from waveedge import __version__
from waveedge.compression.compress import Compressed, structure
from waveedge.compression.recipe import Recipe
from waveedge.compression.report import CompressionReport
from waveedge.compression.wavelet import LayerDecision
from waveedge.errors import ArtifactError
from waveedge.filetypes import is_artifact_file, newest
from waveedge.models.build import build
from waveedge.nn import ActivationQuantizer, WeightQuantizer
from waveedge.outputs import ARTIFACT, new_file
from waveedge.spec import ModelSpec

__all__ = ["KEY", "is_artifact", "load_artifact", "newest_artifact", "save_artifact"]

KEY = "waveedge.artifact"
FORMAT = 1


class _Header(BaseModel):
    """The artifact's metadata."""

    model_config = ConfigDict(extra="forbid")

    format: int
    version: str
    spec: ModelSpec
    recipe: Recipe
    decisions: list[LayerDecision]
    input_size: tuple[int, int]
    unsigned: list[str]
    """Names of the activation quantizers that calibration gave the unsigned grid."""
    source_sha256: str
    source_name: str
    calibration_sha256: str
    report: CompressionReport


def save_artifact(compressed: Compressed, path: Path, *, overwrite: bool = False) -> None:
    """Write ``compressed`` to ``path``, whole or not at all.

    Args:
        path: the file; an older artifact is replaced.
        overwrite: replace any other file, too.

    Raises:
        OutputError: the file must not be replaced, or the folder is missing, read-only or full.
    """
    header = _Header(
        format=FORMAT,
        version=__version__,
        spec=compressed.spec,
        recipe=compressed.recipe,
        decisions=compressed.decisions,
        input_size=compressed.input_size,
        unsigned=[
            name
            for name, module in compressed.graph.named_modules()
            if isinstance(module, ActivationQuantizer) and not module.signed
        ],
        source_sha256=compressed.source_sha256,
        source_name=compressed.source_name,
        calibration_sha256=compressed.calibration_sha256,
        report=compressed.report,
    )
    state = {name: tensor.contiguous() for name, tensor in compressed.graph.state_dict().items()}
    for name, quantizer in _weight_quantizers(compressed.graph):
        integers = quantizer.integers(state[name])
        state[name] = _pack(integers) if quantizer.bits <= 4 else integers
    with new_file(path, ARTIFACT, overwrite=overwrite) as temporary:
        # Written by Python: a full disk is then an OSError that can be explained.
        temporary.write_bytes(save(state, metadata={KEY: header.model_dump_json()}))


def load_artifact(path: Path, *, arch: str | None = None) -> Compressed:
    """Read an artifact; the network computes to the bit what it computed when it was saved.

    Args:
        path: a file that :func:`save_artifact` wrote.
        arch: ``package.module:factory`` of a custom network; the name inside the file is never
            imported unless it is also given here.

    Raises:
        ArtifactError: the file is damaged, foreign, or from a newer format.
        CheckpointError: the artifact holds a custom network and ``arch`` is missing.
    """
    path = Path(path)
    header = _header(path)
    model = build(header.spec, arch=arch)
    graph, _ = structure(model, header.spec, header.recipe, header.decisions, header.input_size)
    for name in header.unsigned:
        quantizer = graph.get_submodule(name)
        assert isinstance(quantizer, ActivationQuantizer)
        quantizer.signed = False
    _fill(graph, path)
    return Compressed(
        graph=graph,
        spec=header.spec,
        recipe=header.recipe,
        decisions=header.decisions,
        input_size=header.input_size,
        source_sha256=header.source_sha256,
        source_name=header.source_name,
        calibration_sha256=header.calibration_sha256,
        report=header.report,
    )


def is_artifact(path: Path) -> bool:
    """Whether ``path`` is a safetensors file with a waveedge artifact in it."""
    try:
        return KEY in _metadata(path)
    except ArtifactError:
        return False


def newest_artifact(folder: Path, *, warn: Callable[[str], object] = warnings.warn) -> Path | None:
    """Return the artifact of ``folder`` that was written last, or None.

    Args:
        warn: called with a sentence about every newer file of that ending that is broken.
    """
    return newest(folder.glob("*.safetensors"), is_artifact_file, warn)


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{path} cannot be read as a waveedge artifact: {error}",
            hint="It may be truncated; make it again with: waveedge compress",
        ) from error


def _header(path: Path) -> _Header:
    text = _metadata(path).get(KEY)
    if text is None:
        raise ArtifactError(
            f"{path} is a safetensors file, but holds no waveedge artifact",
            hint="Make one with: waveedge compress MODEL",
        )
    try:
        fields: dict[str, Any] = json.loads(text)
        if isinstance(fields, dict) and fields.get("format", FORMAT) != FORMAT:
            raise ArtifactError(
                f"{path} has artifact format {fields['format']}, this is waveedge {__version__} "
                f"with format {FORMAT}",
                hint="Update waveedge, or make the artifact again with: waveedge compress",
            )
        return _Header.model_validate_json(text)
    except (json.JSONDecodeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise ArtifactError(
            f"the metadata of {path} is damaged: {first}",
            hint="Make the artifact again with: waveedge compress",
        ) from error


def _fill(graph: nn.Module, path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    expected = graph.state_dict()
    try:
        for name, quantizer in _weight_quantizers(graph):
            integers = state[name]
            if quantizer.bits <= 4:
                integers = _unpack(integers, expected[name].shape)
            scale = state[f"{name.removesuffix('weight')}weight_quantizer.scale"]
            along = [-1 if dim == quantizer.axis else 1 for dim in range(integers.dim())]
            state[name] = integers * scale.reshape(along)
        graph.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"{path} does not fit the network that it describes: {reason}",
            hint="It is damaged or was made by another version; make it again with: "
            "waveedge compress",
        ) from error


def _weight_quantizers(model: nn.Module) -> list[tuple[str, WeightQuantizer]]:
    """List (name of the weight, its quantizer)."""
    return [
        (f"{name.removesuffix('weight_quantizer')}weight", module)
        for name, module in model.named_modules()
        if isinstance(module, WeightQuantizer)
    ]


def _pack(integers: Tensor) -> Tensor:
    """Pack int8 values of -8..7 two to a byte, the first in the low half."""
    flat = integers.flatten().to(torch.int16)
    if flat.numel() % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    pairs = (flat & 0xF).reshape(-1, 2)
    return (pairs[:, 0] | (pairs[:, 1] << 4)).to(torch.uint8)


def _unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """Undo :func:`_pack` for a tensor of ``shape``."""
    wide = packed.to(torch.int16)
    flat = torch.stack([wide & 0xF, wide >> 4], dim=1).flatten()[: shape.numel()]
    return torch.where(flat > 7, flat - 16, flat).to(torch.int8).reshape(shape)
