"""``waveedge build``: a bundle's engines, on the device that shall run them. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from waveedge import console
from waveedge.runtime.bits import distinct_bits
from waveedge.runtime.build import build
from waveedge.runtime.built import Built
from waveedge.runtime.bundle import newest_bundle
from waveedge.runtime.engine_builder import Settings
from waveedge.runtime.race import Lap, race

__all__ = ["run"]

_COLUMNS = ("form", "engine", "to its form", "layers", "executed bits")
_DLA = ("on the DLA",)
_NAMES = 5
"""Layers on the GPU that the table names; the engine's manifest and ``--json`` have all."""


def run(
    bundle: Path | None,
    forms: Sequence[str],
    *,
    workspace_mib: int | None,
    level: int | None,
    dla: int | None,
    opt_batch: int | None,
    again: bool,
    raced: bool,
    least_db: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Build the engines of a bundle, or of the newest one here; race them where ``raced``.

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
            dla_core=dla,
            opt_batch=opt_batch,
            progress=progress,
        )
        built = build(
            bundle,
            forms=forms,
            settings=settings,
            again=again,
            overwrite=overwrite,
            progress=progress,
        )
        laps = race(bundle, least_db=least_db, progress=progress) if raced else []
    if as_json:
        engines = [one.to_dict() for one in built]
        console.print_json({"engines": engines, "race": [lap.to_dict() for lap in laps]})
        return
    console.table(
        f"Engines of {bundle}",
        (*_COLUMNS, *_DLA[: dla is not None], "file"),
        [
            (
                one.form,
                console.size(one.engine_bytes) if not one.error else "-",
                "-" if one.snr_db is None else f"{one.snr_db:.1f} dB",
                str(one.layers) if not one.error else "-",
                distinct_bits(one.executed.values()) or "-",
                *(_placed(one),)[: dla is not None],
                f"{one.path}{' (was here)' if one.reused else ''}" if not one.error else "none",
            )
            for one in built
        ],
    )
    for one in built:
        if one.error:
            console.warn(one.error)
    if laps:
        console.table(
            "The race: every engine in turn, on the same images",
            ("form", "time", "of the chosen one", "to your network", ""),
            [
                (
                    lap.form if lap.dla_core is None else f"{lap.form}, DLA core {lap.dla_core}",
                    "-" if lap.ms is None else f"{lap.ms:.2f} ms",
                    "-" if lap.slower is None else "{:.2f}x [{:.2f}, {:.2f}]".format(*lap.slower),
                    f"{lap.snr_db:.1f} dB",
                    _outcome(lap),
                )
                for lap in laps
            ],
        )
    for lap in laps:
        if lap.error:
            console.warn(f"{lap.form} was left out of the race: {lap.error}")


def _outcome(lap: Lap) -> str:
    if lap.error:
        return "left out"
    return "chosen" if lap.chosen else "" if lap.admitted else "not good enough"


def _placed(one: Built) -> str:
    """How many layers run on the DLA, and which do not."""
    if one.dla_core is None:
        return "-"
    shown, more = one.on_gpu[:_NAMES], len(one.on_gpu) - _NAMES
    rest = f", and {more} more" if more > 0 else ""
    on_gpu = f"; on the GPU: {', '.join(shown)}{rest}" if shown else ""
    return f"{one.on_dla} layers{on_gpu}"
