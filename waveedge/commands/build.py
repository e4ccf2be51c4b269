"""``waveedge build``: a bundle's engines, on the device that shall run them. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from waveedge import console
from waveedge.runtime.build import build
from waveedge.runtime.bundle import newest_bundle
from waveedge.runtime.engine_builder import Settings

__all__ = ["run"]


def run(
    bundle: Path | None,
    forms: Sequence[str],
    *,
    workspace_mib: int | None,
    level: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Build the engines of a bundle, or of the newest one here, and say how near each comes.

    Raises:
        WaveedgeError: see :func:`waveedge.runtime.build.build`.
    """
    if bundle is None:
        bundle = newest_bundle(warn=console.warn)
        console.say(f"Building the newest bundle here: {bundle}")
    with console.progress_bar() as progress:
        settings = Settings(
            workspace_bytes=None if workspace_mib is None else workspace_mib * 2**20,
            level=level,
            progress=progress,
        )
        built = build(
            bundle, forms=forms, settings=settings, overwrite=overwrite, progress=progress
        )
    if as_json:
        console.print_json([one.to_dict() for one in built])
        return
    console.table(
        f"Engines of {bundle}",
        ("form", "engine", "to onnxruntime", "steps", "file"),
        [
            (
                one.form,
                console.size(one.engine_bytes),
                "-" if one.snr_db is None else f"{one.snr_db:.1f} dB",
                str(one.layers),
                str(one.path),
            )
            for one in built
        ],
    )
