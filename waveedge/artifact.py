"""The compressed artifact: one ``.safetensors`` file that holds a network and how it was made.

The metadata is JSON under the key ``waveedge.artifact``: the graph of layers, hashes of all
tensors and of itself, specification, recipe, decisions, report (docs/artifacts.md). Quantized
weights are stored as the integers they are (int8; two to a byte up to 4 bits). Loading builds the
graph from tables of known functions and layers: no code runs from the file, and no rewrite runs,
so that later versions compute the same numbers from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import warnings
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from safetensors.torch import save

from waveedge import __version__
from waveedge.bounds import Count, Digest, Extent, Name
from waveedge.compression.compressed import Compressed
from waveedge.compression.recipe import Recipe
from waveedge.compression.reparameterize import Applied
from waveedge.compression.report import CompressionReport
from waveedge.compression.wavelet import LayerDecision
from waveedge.errors import ArtifactError, ExportError
from waveedge.filetypes import ARTIFACT_KEY, is_artifact_file, newest
from waveedge.models.families import FAMILIES
from waveedge.models.source import relative_name
from waveedge.normalise import preserve
from waveedge.outputs import ARTIFACT, new_file
from waveedge.serialize import (
    GraphRecord,
    TensorRecord,
    check_tensors,
    describe_graph,
    fill,
    read_metadata,
    read_tensors,
    rebuild_graph,
    stored_tensors,
)
from waveedge.sizes import Sizes
from waveedge.spec import ModelSpec

__all__ = ["KEY", "is_artifact", "load_artifact", "newest_artifact", "save_artifact"]

KEY = ARTIFACT_KEY
FORMAT: Final = 2
_EARLIER = "an earlier version wrote its maps' sizes into the graph"
_AGAIN = "Make the artifact again with: waveedge compress"


def _relative(quoted: str) -> str:
    name = unquote_to_bytes(quoted)
    if name.startswith(b"/") or b"\0" in name:
        raise ValueError("must be a relative path")
    return quoted


class _Header(BaseModel):
    """The artifact's metadata."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    format: Literal[2]
    version: Name
    graph: GraphRecord
    tensors: Annotated[dict[Name, TensorRecord], Field(max_length=100_000)]
    applied: tuple[tuple[Name, Name, Count, Count], ...]
    outputs: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]
    """Names of the outputs, as the user's network has them."""
    spec: ModelSpec
    recipe: Recipe
    decisions: list[LayerDecision]
    input_size: tuple[Extent, Extent]
    sizes: Sizes | None = None
    """None where an earlier version wrote the file, whose graphs take no other size."""
    source_sha256: Digest | Literal[""]
    source_name: Annotated[str, Field(max_length=1000), AfterValidator(_relative)]
    """The way to the checkpoint from the artifact, as in a URL (RFC 3986): it need not be text."""
    calibration_sha256: Digest
    report: CompressionReport

    @field_validator("spec")
    @classmethod
    def _known_config(cls, spec: ModelSpec) -> ModelSpec:
        if spec.family in FAMILIES:
            FAMILIES[spec.family].config.model_validate(spec.config)
        return spec

    @model_validator(mode="after")
    def _one_size(self) -> _Header:
        if self.sizes is not None and self.sizes.calibrated != self.input_size:
            raise ValueError("sizes.calibrated differs from input_size")
        return self


def save_artifact(compressed: Compressed, path: str | Path, *, overwrite: bool = False) -> None:
    """Write ``compressed`` to ``path``, whole or not at all.

    Args:
        path: the file; an older artifact is replaced.
        overwrite: replace any other file, too.

    Raises:
        ExportError: the network holds a layer, a function or a tensor that a file cannot hold.
        OutputError: the file must not be replaced, or the folder is missing, read-only or full.
    """
    path = Path(path)
    # The way to the checkpoint, so that export finds it again wherever it lies.
    source = getattr(compressed.original, "source_path", None)
    name = relative_name(source, path.parent) if source else compressed.source_name
    try:
        graph, names = describe_graph(compressed.graph)
        stored = stored_tensors(compressed.graph, names)
    except ValueError as error:
        raise ExportError(
            f"this network cannot be saved: {error}",
            hint="Artifacts hold layers of torch.nn and waveedge.nn and functions of torch alone "
            "(docs/artifacts.md); write that part of the network with these.",
        ) from error
    applied: tuple[Applied, ...] = getattr(compressed.graph, "applied", ())
    header = _Header(
        format=FORMAT,
        version=__version__,
        graph=graph,
        tensors={key: record for key, (_, record) in stored.items()},
        applied=tuple(astuple(item) for item in applied),
        outputs=tuple(compressed.graph.output_names),  # type: ignore[arg-type]
        spec=compressed.spec,
        recipe=compressed.recipe,
        decisions=compressed.decisions,
        input_size=compressed.input_size,
        sizes=compressed.sizes,
        source_sha256=compressed.source_sha256,
        source_name=quote_from_bytes(os.fsencode(name)),
        calibration_sha256=compressed.calibration_sha256,
        report=compressed.report,
    )
    tensors = {key: tensor for key, (tensor, _) in stored.items()}
    with new_file(path, ARTIFACT, overwrite=overwrite) as temporary:
        # Written by Python: a full disk is then an OSError that can be explained.
        temporary.write_bytes(save(tensors, metadata={KEY: _text(header, given=False)}))


def load_artifact(path: str | Path) -> Compressed:
    """Read an artifact; the network computes to the bit what it computed when it was saved.

    Args:
        path: a file that :func:`save_artifact` wrote; it need not be trusted.

    Raises:
        ArtifactError: the file is damaged, foreign, or of another format.
    """
    path = Path(path)
    header = _header(path)
    try:
        tensors = read_tensors(path)
        check_tensors(tensors, header.tensors)
        graph = rebuild_graph(header.graph, header.tensors)
        fill(graph, tensors, header.tensors)
    except ValueError as error:
        raise _damaged(path, error) from error
    sizes = header.sizes or Sizes(calibrated=header.input_size, bound=_EARLIER)
    preserve(
        graph,
        spec=header.spec,
        sizes=sizes,
        applied=tuple(Applied(*item) for item in header.applied),
        left_out=header.report.left_out,
        output_names=list(header.outputs),
    )
    return Compressed(
        graph=graph,
        spec=header.spec,
        recipe=header.recipe,
        decisions=header.decisions,
        sizes=sizes,
        source_sha256=header.source_sha256,
        source_name=os.fsdecode(unquote_to_bytes(header.source_name)),
        calibration_sha256=header.calibration_sha256,
        report=header.report,
        path=path,
    )


def is_artifact(path: Path) -> bool:
    """Whether ``path`` is a safetensors file with a waveedge artifact in it."""
    try:
        return KEY in read_metadata(path)
    except ValueError:
        return False


def newest_artifact(folder: Path, *, warn: Callable[[str], object] = warnings.warn) -> Path | None:
    """Return the artifact of ``folder`` that was written last, or None.

    Args:
        warn: called with a sentence about every newer file of that ending that is broken.
    """
    return newest(folder.glob("*.safetensors"), is_artifact_file, warn)


def _header(path: Path) -> _Header:
    try:
        text = read_metadata(path).get(KEY)
    except ValueError as error:
        raise ArtifactError(
            f"{path} cannot be read as a waveedge artifact: {error}",
            hint="It may be truncated; make it again with: waveedge compress",
        ) from error
    if text is None:
        raise ArtifactError(
            f"{path} is a safetensors file, but holds no waveedge artifact",
            hint="Make one with: waveedge compress MODEL",
        )
    try:
        fields: dict[str, Any] = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("its metadata is no JSON object")
        if fields.get("format", FORMAT) != FORMAT:
            raise _other_format(path, fields)
        digest = fields.pop("sha256", None)
        if digest != _digest(fields):
            raise ValueError("its metadata differs from its recorded hash")
        header = _Header.model_validate(fields)
        # One text for one content: no second value under a key, no number written as a string.
        if _text(header, given=True) != text:
            raise ValueError("its metadata is not what waveedge writes")
        return header
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:150]
        raise _damaged(path, f"in its metadata, {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:  # nested too deeply for the parser
        raise _damaged(path, error) from error


def _text(header: _Header, *, given: bool) -> str:
    """The metadata as it is written, with its hash.

    ``given`` leaves out the fields that the file had not, as a later version has more of them.
    """
    fields = json.loads(header.model_dump_json(exclude_unset=given))
    return _canonical({**fields, "sha256": _digest(fields)})


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(fields).encode()).hexdigest()


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _damaged(path: Path, reason: object) -> ArtifactError:
    return ArtifactError(f"{path} is damaged: {_plain(reason, 300)}", hint=_AGAIN)


def _plain(quoted: object, longest: int) -> str:
    """What a file says, in one line, and without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(quoted)[:longest])


def _other_format(path: Path, fields: dict[str, Any]) -> ArtifactError:
    found = _plain(fields["format"], 20)
    if fields["format"] == 1:
        return ArtifactError(
            f"{path} has artifact format 1, which waveedge {__version__} does not read",
            hint=f"Make it again with: waveedge compress {_plain(_flags(fields), 1000)}",
        )
    return ArtifactError(
        f"{path} has artifact format {found}, this is waveedge {__version__} with format {FORMAT}",
        hint="Update waveedge, or make the artifact again with: waveedge compress",
    )


def _flags(fields: dict[str, Any]) -> str:
    """The rest of the line that makes an artifact of format 1 again, as far as it tells."""
    try:
        recipe = Recipe.model_validate(fields["recipe"])
        size = [int(extent) for extent in fields["input_size"]]
        words = [str(fields["source_name"])[:200] or "MODEL"]
        for name in ("bits", "weight_bits", "wcc_ratio", "wcc_levels", "seed"):
            words += [f"--{name.replace('_', '-')}", f"{getattr(recipe, name):g}"]
        for name in ("skip", "only"):
            for pattern in getattr(recipe, name):
                words += [f"--{name}", pattern]
        words += ["--input-size", "x".join(map(str, size))]
        if arch := fields["spec"]["arch"]:
            words += ["--arch", str(arch)[:200]]
        return shlex.join(words) + (" --recipe FILE" if recipe.layers else "")
    except (KeyError, TypeError, ValueError):
        return "MODEL"
