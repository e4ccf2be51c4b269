"""Exported bundles: a folder with a model, its manifest, and the hash of every file.

A bundle is trusted only after its manifest, and every file that this lists, has the recorded
SHA-256, and no model reads a file that is not listed. So a half-copied or edited bundle is found
before it runs, not by wrong outputs or figures.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waveedge.errors import ArtifactError, InputError
from waveedge.files import sha256
from waveedge.filetypes import is_bundle_manifest, newest
from waveedge.runtime.external import external_files
from waveedge.runtime.manifest import MANIFEST, read_manifest
from waveedge.runtime.schema import shown

__all__ = ["Bundle", "newest_bundle", "open_bundle"]

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
        return str(self.manifest["name"]) or self.path.resolve().name

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
        name = self.manifest[key]
        return None if name is None else self.path / name


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle's manifest and check it, and every file that it lists.

    Other files of the folder, such as an engine that was built on the device, are left alone: they
    are part of no report.

    Raises:
        InputError: there is no such folder.
        ArtifactError: the folder is no bundle, its format is unknown, or its manifest or a file is
            missing or was changed; the message names the field or file.
    """
    path = Path(path)
    if not os.path.isdir(path):
        raise InputError(
            f"there is no bundle at {path}",
            hint="A bundle is the folder that waveedge export wrote; check the path.",
        )
    bundle = Bundle(path, read_manifest(path))
    files: Mapping[str, str] = bundle.manifest["files"]
    for name, expected in files.items():
        _check_file(path / name, expected)
    for model in (bundle.model, bundle.baseline):
        for name in external_files(model) if model is not None else ():
            if name not in files:
                raise ArtifactError(
                    f"{model} keeps weights in {shown(name)}, which is not among the files "
                    f"with a hash in {MANIFEST}",
                    hint=_EXPORT_AGAIN,
                )
    return bundle


def _check_file(file: Path, expected: str) -> None:
    if not os.path.isfile(file):
        raise ArtifactError(
            f"bundle {file.parent} lacks its file {file.name}", hint=f"Copy it. {_EXPORT_AGAIN}"
        )
    try:
        found = sha256(file)
    except OSError as error:
        raise ArtifactError(
            f"{file} cannot be read: {error.strerror}", hint="Make the bundle's files readable."
        ) from error
    if found != expected:
        raise ArtifactError(
            f"{file} is not the file that was exported: its SHA-256 differs from the one in "
            f"{MANIFEST}",
            hint=f"It was damaged or edited. Copy the bundle again. {_EXPORT_AGAIN}",
        )


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
