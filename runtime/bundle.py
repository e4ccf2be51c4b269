"""Exported bundles: a folder with a model, its manifest, and the hash of every file.

A bundle is trusted only after every file that its manifest lists has the recorded SHA-256, so a
half-copied or edited model is found before it runs, not by wrong outputs.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from waveedge.errors import ArtifactError, InputError
from waveedge.files import sha256
from waveedge.filetypes import is_bundle_manifest, newest

__all__ = ["FORMAT", "MANIFEST", "Bundle", "newest_bundle", "open_bundle"]

FORMAT = "waveedge-bundle/1"
MANIFEST = "manifest.json"

_EXPORT_AGAIN = "Export the network again with: waveedge export"


@dataclass(frozen=True)
class Bundle:
    """An exported bundle whose files match their recorded hashes.

    Attributes:
        path: the folder.
        manifest: the content of ``manifest.json``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The network's name: the manifest's, else the folder's."""
        return str(self.manifest.get("name") or self.path.resolve().name)

    @property
    def model(self) -> Path:
        """The ONNX model."""
        return self.path / str(self.manifest["model"])

    @property
    def baseline(self) -> Path | None:
        """The uncompressed network exported as published, where the bundle carries it."""
        return self._optional("baseline")

    @property
    def engine(self) -> Path | None:
        """The TensorRT engine, where one was built."""
        return self._optional("engine")

    def _optional(self, key: str) -> Path | None:
        name = self.manifest.get(key)
        return self.path / str(name) if name else None


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle's manifest and check every file against it.

    Raises:
        InputError: there is no such folder.
        ArtifactError: the folder is no bundle, its format is unknown, or a file is missing or
            was changed; the message names the file.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"there is no bundle at {path}",
            hint="A bundle is the folder that waveedge export wrote; check the path.",
        )
    manifest = _read_manifest(path)
    files = _listed_files(path, manifest)
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(f"bundle {path} lacks its file {name}", hint=_EXPORT_AGAIN)
        if sha256(file) != expected:
            raise ArtifactError(
                f"{file} is not the file that was exported: its SHA-256 differs from the "
                f"one in {MANIFEST}",
                hint=f"It was damaged or edited. Copy the bundle again. {_EXPORT_AGAIN}",
            )
    return Bundle(path, manifest)


def newest_bundle(
    folder: str | Path = ".", *, warn: Callable[[str], object] = warnings.warn
) -> Path:
    """Return the most recently exported bundle that is ``folder`` or lies directly in it.

    Hidden folders are passed over: they hold exports in progress. Files are not verified here.

    Args:
        warn: called with a sentence about every newer bundle whose manifest is broken.

    Raises:
        InputError: there is none.
    """
    folder = Path(folder)
    candidates = [folder]
    if folder.is_dir():
        candidates += [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    manifests = [entry / MANIFEST for entry in candidates if os.path.lexists(entry / MANIFEST)]
    manifest = newest(manifests, is_bundle_manifest, warn)
    if manifest is None:
        raise InputError(
            f"there is no exported bundle in {folder.resolve()}",
            hint="Make one with: waveedge export",
        )
    return manifest.parent


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{path} is not an exported bundle: it has no {MANIFEST}",
            hint="Name the folder that waveedge export wrote, or an .onnx file.",
        ) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}", hint=_EXPORT_AGAIN) from error
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{file} holds no JSON object", hint=_EXPORT_AGAIN)
    form = manifest.get("format")
    if form != FORMAT:
        raise ArtifactError(
            f"{file} has format {form!r}; this waveedge reads {FORMAT!r}",
            hint=f"Use the waveedge that wrote it. {_EXPORT_AGAIN}",
        )
    return manifest


def _listed_files(path: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> SHA-256 of the bundle's files after checking the manifest's structure."""
    file = path / MANIFEST
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise ArtifactError(
            f"{file}: 'files' must map file names to SHA-256 strings", hint=_EXPORT_AGAIN
        )
    for name in files:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise ArtifactError(f"{file} names {name!r}, outside the bundle", hint=_EXPORT_AGAIN)
    for key in ("model", "baseline", "engine"):
        name = manifest.get(key)
        if name is None and key != "model":
            continue
        if name not in files:
            raise ArtifactError(
                f"{file}: {key} is {name!r}, which is not among the files with a hash",
                hint=_EXPORT_AGAIN,
            )
    return files
