"""What ``waveedge build`` tells of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Built"]


@dataclass(frozen=True)
class Built:
    """An engine that was built.

    Attributes:
        form: its name in the bundle.
        path: the engine; its manifest lies beside it.
        onnx: the file that it was built from.
        precision: of its floating-point layers, as asked for.
        snr_db: to its form on the bundle's images; None where it has none.
        engine_bytes: its size.
        layers: steps of the engine.
        executed: weight and activation bits of each of the network's layers, as the engine computes
            them; without those of which the inspector does not tell.
        dla_core: the deep learning accelerator that runs it; None for the GPU alone.
        on_dla: how many layers run there.
        on_gpu: names of those that the GPU runs instead.
        reused: it lay here, and fits.
        error: why there is none.
    """

    form: str
    path: Path
    onnx: str
    precision: str
    snr_db: float | None = None
    engine_bytes: int = 0
    layers: int = 0
    executed: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dla_core: int | None = None
    on_dla: int = 0
    on_gpu: tuple[str, ...] = ()
    reused: bool = False
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**vars(self), "path": str(self.path), "on_gpu": list(self.on_gpu)}

    @classmethod
    def of_manifest(
        cls, form: str, engine: Path, fields: Mapping[str, Any], *, reused: bool = False
    ) -> Built:
        """What the manifest beside an engine tells of it."""
        dla = fields["dla"] or {"core": None, "on_dla": 0, "on_gpu": ()}
        return cls(
            form,
            engine,
            fields["onnx"],
            fields["precision"],
            snr_db=fields["snr_db"],
            engine_bytes=engine.stat().st_size,
            layers=fields["layers"],
            executed=fields["executed"],
            dla_core=dla["core"],
            on_dla=dla["on_dla"],
            on_gpu=tuple(dla["on_gpu"]),
            reused=reused,
        )
