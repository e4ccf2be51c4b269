"""Gives a peer the better of its options: tries each setting, and keeps one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Options, Peer, run_peer
from benchmarks.quality import fidelity
from benchmarks.records import Record, write_text
from benchmarks.timing import measure
from waveedge.errors import ExportError, MissingDependencyError, WaveedgeError
from waveedge.files import sha256

__all__ = ["EQUALLY_GOOD_DB", "Best", "best_setting"]

# Settings differ in quality, or by far in speed: a few runs tell them apart.
_RUNS = 5

EQUALLY_GOOD_DB = 3.0
"""Of settings whose signal-to-noise ratio is so near to the best one's, the fastest is kept."""


@dataclass(frozen=True)
class Best:
    """What a peer made under the setting that suits it best.

    Attributes:
        file: the ONNX file.
        setting: label of the setting, with its ``options``.
        versions: of the packages involved.
        tried: one record a setting: speed and quality, or the error.
    """

    file: Path
    setting: str
    options: Options
    versions: dict[str, str]
    tried: list[Record]


def best_setting(
    peer: Peer,
    model: Path,
    calibration: Path,
    images: Sequence[NDArray[np.float32]],
    *,
    cache: Path,
    first_only: bool = False,
) -> Best:
    """Run a peer under each of its settings; keep the fastest of the most accurate results.

    Args:
        model: the published network as ONNX.
        calibration: what the peer calibrates on.
        images: what quality is judged on.
        cache: keeps results by the hash of everything they depend on.
        first_only: try the first setting alone.

    Raises:
        MissingDependencyError: the peer is not installed.
        ExportError: it failed under every setting.
    """
    tried: list[Record] = []
    works: list[tuple[float, Best]] = []
    for setting, options in list(peer.settings.items())[: 1 if first_only else None]:
        try:
            file, versions = _run(peer, options, model, calibration, cache)
            speed = measure(file, model, images, threads=1, runs=_RUNS, memory=False)["cpu_ratio"]
            quality = fidelity(file, model, images)["snr_db"]
        except MissingDependencyError:
            raise
        except WaveedgeError as error:
            tried.append({"setting": setting, "error": error.what})
            continue
        tried.append({"setting": setting, "cpu_ratio": speed["value"], "snr_db": quality})
        works.append((quality, Best(file, setting, options, versions, tried)))
    if not works:
        raise ExportError("; ".join(f"{row['setting']}: {row['error']}" for row in tried))
    least = max(quality for quality, _ in works) - EQUALLY_GOOD_DB
    speeds = {row["setting"]: float(row["cpu_ratio"]) for row in tried if "error" not in row}
    good = [best for quality, best in works if quality >= least]
    return max(good, key=lambda best: speeds[best.setting])


def _run(
    peer: Peer, options: Options, model: Path, calibration: Path, cache: Path
) -> tuple[Path, dict[str, str]]:
    """Return the peer's file and versions; the same input and options are not run again."""
    named = json.dumps([peer.name, peer.packages, options], sort_keys=True)
    digest = hashlib.sha256(f"{sha256(model)}{sha256(calibration)}{named}".encode()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"{peer.name}-{digest[:16]}.onnx"
    note = file.with_suffix(".json")
    if not note.is_file():
        write_text(note, json.dumps(run_peer(peer, options, model, calibration, file)))
    versions: dict[str, str] = json.loads(note.read_text())
    return file, versions
